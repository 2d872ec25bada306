"""A primary, its replica and the Sentinels that watch them, of one's own; the primary can be killed or cut off."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .clusters import Listening, free_ports
from .servers import until

NAME = "checkpoints"
SENTINELS = 3


class Sentinel:
    """One Sentinel process."""

    def __init__(self, binary: str, directory: Path, port: int, primary: int) -> None:
        directory.mkdir()
        self.port = port
        file = directory / "sentinel.conf"
        # A primary counts as down after half a second, when two of three say so.
        lines = [f"port {port}", "bind 127.0.0.1", f"dir {directory}", f"logfile {directory / 'log'}"]
        lines += [f"sentinel monitor {NAME} 127.0.0.1 {primary} {SENTINELS // 2 + 1}"]
        lines += [f"sentinel down-after-milliseconds {NAME} 500", f"sentinel failover-timeout {NAME} 4000"]
        file.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen([binary, str(file), "--sentinel"], stdout=subprocess.DEVNULL)
        until(self._answers, "Sentinel answers")

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.ConnectionError:
            return False

    def ask(self, *command: str) -> Any:
        with redis.Redis(port=self.port, protocol=2, retry=Retry(NoBackoff(), 0)) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def facts(self) -> dict[str, str]:
        """What it knows of the primary."""
        flat = self.ask("SENTINEL", "MASTER", NAME)
        return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Watched:
    """A primary and a replica under three Sentinels. It has the face of ``failover.Pair``."""

    def __init__(self, binary: str, room: Path) -> None:
        ports = free_ports(2 + SENTINELS)
        with ExitStack() as stack:
            self.primary = stack.enter_context(Listening(binary, room / "primary", ports[0], {}))
            self.replica = stack.enter_context(Listening(binary, room / "replica", ports[1], {}))
            self.replica.ask("REPLICAOF", "127.0.0.1", self.primary.port)
            until(lambda: self.replica.info("replication", "master_link_status") == "up", "the replica is linked")
            self.sentinels: list[Sentinel] = []
            for n, port in enumerate(ports[2:]):
                self.sentinels.append(Sentinel(binary, room / f"sentinel-{n}", port, self.primary.port))
                stack.callback(self.sentinels[-1].kill)
            until(lambda: all(_is_known(one.facts()) for one in self.sentinels), "the Sentinels know each other")
            self._stack = stack.pop_all()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{NAME}"

    def stop_replication(self) -> None:
        """The replica has all that the primary has at this moment, and is refused by it from here on."""
        until(
            lambda: (
                self.replica.info("replication", "slave_repl_offset")
                == self.primary.info("replication", "master_repl_offset")
            ),
            "the replica has caught up",
        )
        for setting in (("masteruser", "nobody"), ("masterauth", "wrong")):  # Redis 6.2 takes one at a time
            self.replica.ask("CONFIG", "SET", *setting)
        self.primary.ask("CLIENT", "KILL", "TYPE", "replica")
        until(lambda: self.replica.info("replication", "master_link_status") == "down", "the replica is cut off")

    def fail_over(self) -> None:
        """The primary dies, and Sentinel makes the replica one."""
        self.primary.kill()
        until(self._is_promoted, "the replica is promoted")

    def _is_promoted(self) -> bool:
        try:
            return self.replica.info("replication", "role") == "master"
        except redis.ConnectionError:  # Sentinel hangs up on all who are connected to a server that it reconfigures
            return False

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_known(facts: dict[str, str]) -> bool:
    """Whether a Sentinel has met the others, and the replica."""
    return (facts["num-other-sentinels"], facts["num-slaves"]) == (str(SENTINELS - 1), "1")

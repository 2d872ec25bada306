"""Real servers of one's own: Valkey from the wheel, Debian's Redis. They can be killed, and come back on their data."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from agentcheckpoint.store.server_binary import find_binary

PATIENCE = 60.0
"""Seconds to wait for a server to answer, or for anything else that must come: a machine may be slow."""

_KEPT = {"appendonly": "yes", "appendfsync": "always", "save": "", "port": "0"}


class ServerEnded(Exception):
    """The server ended as soon as it was started; the end of its log is the message."""


def binaries() -> dict[str, str]:
    """The servers that this machine has, by name: Valkey and Redis differ, so what is claimed is tried on both."""
    found = {"embedded": str(find_binary()), "redis": shutil.which("redis-server")}
    return {name: binary for name, binary in found.items() if binary is not None}


def embeddable(name: str) -> str | None:
    """The program of that name on ``PATH``, if the embedded server can be one: it takes none before 7.0."""
    found = shutil.which(name)
    if found is None or " v=6." in subprocess.run([found, "--version"], capture_output=True, text=True).stdout:
        return None
    return found


def until(true: Callable[[], bool], what: str) -> None:
    """Waits until it is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE:.0f} s")
        time.sleep(0.003)


class Server:
    """A server on a Unix socket, its data in one directory, synced at each write unless ``settings`` say otherwise.

    It is killed at the end of its ``with``.

    Args:
        binary: what to run.
        directory: where its data, its socket and its log lie.
        environment: of its process; this one's if not given.
        settings: of its configuration, by name.
    """

    def __init__(
        self,
        binary: str,
        directory: Path,
        settings: Mapping[str, str | int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.socket = str(directory / "socket")
        self.url = f"unix://{self.socket}"
        self._environment = environment
        here = {"dir": str(directory), "unixsocket": self.socket, "logfile": str(directory / "log")}
        options = {**_KEPT, **here, **(settings or {})}
        self._command = [binary, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, *, loaded: bool = True) -> None:
        """Starts it, again if need be. ``loaded``: wait until it has read its data, not only until it answers.

        Raises:
            ServerEnded: it did not stay.
        """
        # SIGXFSZ stays ignored, as it is in Python: a file that may grow no more is then an error of its write.
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, env=self._environment, restore_signals=False
        )
        until(lambda: self._answers(loaded), "the server answers")

    def _answers(self, loaded: bool) -> bool:
        if self.ended():
            raise ServerEnded((self.directory / "log").read_text()[-1000:])
        try:
            with self.client() as client:
                return bool(client.ping())
        except BusyLoadingError:
            return not loaded
        except redis.ConnectionError:
            return False

    def logs(self) -> list[Path]:
        """The files that writes are appended to: one, but for a moment. Before Redis 7.0 they lie elsewhere."""
        return [*self.directory.glob("appendonlydir/*.incr.aof"), *self.directory.glob("appendonly.aof")]

    def ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """SIGKILL: it writes no more, and closes nothing. A machine that loses power loses more than that."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kills it, and starts it again on the same data."""
        self.kill()
        self.start()

    def client(self, db: int = 0) -> redis.Redis:
        """A client that may do all, and tries nothing twice."""
        return redis.Redis(unix_socket_path=self.socket, db=db, protocol=2, retry=Retry(NoBackoff(), 0))

    def ask(self, *command: str | bytes | int) -> Any:
        """What it answers, as it came."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

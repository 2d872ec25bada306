"""What befalls a server while an agent is at work: it dies at an EXEC or at random, stays away, or refuses.

Each scenario ends with the agent done, and the raw keys compared with what the agent wrote down outside Redis.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agentcheckpoint.store import patience

from .server_agent import Account, Diary, fork, live
from .server_evidence import Stored, read, wrongs
from .server_fuse import Fuse, Moment, armed
from .servers import PATIENCE, Server
from .tally import Tally

LIVES = 6
"""Times that an agent is started again, at most."""
TROUBLES: dict[str, tuple[tuple[str | int, ...], tuple[str | int, ...]]] = {
    "OOM": (("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
    "READONLY": (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
    "NOREPLICAS": (
        ("CONFIG", "SET", "min-replicas-to-write", 1),
        ("CONFIG", "SET", "min-replicas-to-write", 0),
    ),
}
"""Refusals: what brings each about, and what ends it."""


@dataclass(slots=True)
class Room:
    """Where one scenario is played.

    Attributes:
        server: it may be in any state afterwards, but runs.
        directory: for diaries.
        name: of the scenario; its run is called so.
        rng: for what happens at random.
        tally: what is counted here.
    """

    server: Server
    directory: Path
    name: str
    rng: random.Random
    tally: Tally

    def diary(self) -> Diary:
        return Diary(self.directory / self.name)

    def judged(self, account: Account, extra: Callable[[Stored], Iterator[str]] = lambda stored: iter(())) -> list[str]:
        """What is wrong, once the agent is done."""
        stored = read(self.server, self.name)
        found = list(wrongs(stored, account)) + ([] if stored is None else list(extra(stored)))
        if account.done != 1:
            found.append(f"the agent came to its end {account.done} times, and was told {account.told}")
        return found

    def count(self, what: str, more: int = 1) -> None:
        self.tally.notes[what] = self.tally.notes.get(what, 0) + more


def outlive(room: Room, work: Callable[[], None], delays: Iterable[float] = ()) -> None:
    """Runs it in a fork, and starts the server again whenever it has died meanwhile.

    Args:
        delays: the server is killed so many seconds after each of its starts.
    """
    server, kills, child = room.server, iter(delays), fork(work)
    deadline, kill_at = time.monotonic() + 2 * PATIENCE, _after(kills)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > kill_at:
            server.kill()
        if server.ended():
            room.tally.deaths += 1
            server.start()
            kill_at = _after(kills)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    if server.ended():  # by the agent's last packet
        room.tally.deaths += 1
        server.start()


def be_patient() -> None:
    """In a worker: it tries long enough for a server that is started again on a slow machine."""
    patience.PAUSES = (*patience.PAUSES, *(3.2,) * 12)  # type: ignore[assignment]


def _after(delays: Iterator[float]) -> float:
    return time.monotonic() + next(delays, 2 * PATIENCE)


@dataclass(frozen=True, slots=True)
class Death:
    """The server dies at the n-th EXEC and comes back; the agent lives, and goes on by its own tries alone."""

    agent: str
    n: int
    moment: Moment

    def play(self, room: Room) -> list[str]:
        diary, pid = room.diary(), room.server.pid

        def work() -> None:
            be_patient()
            with armed(Fuse(diary, self.n, self.moment, lambda: os.kill(pid, signal.SIGKILL))):
                live(self.agent, room.name, room.server.url, diary)

        outlive(room, work)
        account = diary.account()
        room.tally.fired += account.struck is not None
        return room.judged(account, lambda stored: self._settled(room, stored, account))

    def _settled(self, room: Room, stored: Stored, account: Account) -> Iterator[str]:
        """Packets that were applied, and whose reply nobody read: none was sent again."""
        ids = {entry["id"] for entry in stored.log}
        for entry in account.struck or ():
            if self.moment in ("sent", "applied") and entry in ids and account.sent[entry] == 1:
                room.count("applied unanswered, settled")
            elif self.moment == "applied":
                yield f"{entry} was applied, and was sent {account.sent[entry]} times"


@dataclass(frozen=True, slots=True)
class RandomDeaths:
    """The server is killed again and again at random moments."""

    agent: str

    def play(self, room: Room) -> list[str]:
        diary, rng = room.diary(), room.rng

        def work() -> None:
            be_patient()
            with armed(Fuse(diary, 0, "before", lambda: None)):
                live(self.agent, room.name, room.server.url, diary)

        before = room.tally.deaths
        outlive(room, work, (rng.uniform(0.005, 0.08) for _ in range(rng.randint(2, 5))))
        room.tally.fired += room.tally.deaths > before
        return room.judged(diary.account())


@dataclass(frozen=True, slots=True)
class Away:
    """The server dies at the n-th EXEC and is away until the agent has given up; then the agent is started again."""

    agent: str
    n: int
    moment: Moment

    def play(self, room: Room) -> list[str]:
        diary, server = room.diary(), room.server
        pid = server.pid

        def work() -> None:
            patience.PAUSES = (0.002,) * 3  # type: ignore[assignment]
            with armed(Fuse(diary, self.n, self.moment, lambda: os.kill(pid, signal.SIGKILL))):
                live(self.agent, room.name, server.url, diary)

        os.waitpid(fork(work), 0)
        account = diary.account()
        if account.struck is None:
            return room.judged(account)
        room.tally.fired += 1
        room.tally.deaths += 1
        server.restart()
        applied = {entry["id"] for entry in stored.log} if (stored := read(server, room.name)) else set[str]()
        os.waitpid(fork(lambda: live(self.agent, room.name, server.url, diary)), 0)
        if any(error == "CommitUnknown" and receipt for _, error, receipt in account.told):
            room.count("given up in doubt")
        found = room.judged(diary.account()) if not account.done else []
        if self.moment == "applied" and not applied >= {*account.struck}:
            found.append(f"{account.struck} were applied, and are not there")
        told = {error for _, error, _ in account.told if not error.startswith("StepRejected")}
        if told - {"CommitUnknown", "StoreUnavailable"}:
            found.append(f"with the server away, it was told {told}")
        return found


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refuses the n-th EXEC, and takes what comes after it; the agent is started again until it is done."""

    agent: str
    n: int
    trouble: str

    def play(self, room: Room) -> list[str]:
        diary, server = room.diary(), room.server
        begin, end = TROUBLES[self.trouble]

        def work() -> None:
            with armed(Fuse(diary, self.n, "before", lambda: server.ask(*begin), lambda: server.ask(*end))):
                for _ in range(LIVES):
                    if live(self.agent, room.name, server.url, diary):
                        return

        os.waitpid(fork(work), 0)
        account = diary.account()
        refused = any(error in ("StoreRefused", "StepRejected, not stored") for _, error, _ in account.told)
        room.tally.fired += refused
        return room.judged(account, lambda stored: self._applied(stored, account, refused))

    @staticmethod
    def _applied(stored: Stored, account: Account, refused: bool) -> Iterator[str]:
        ids = {entry["id"] for entry in stored.log}
        if refused and ids & {*(account.struck or ())}:
            yield f"{account.struck} were refused, and are there"
        if account.struck and not refused:
            yield "what the server refused was taken for committed"

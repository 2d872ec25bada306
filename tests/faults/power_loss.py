"""A server whose machine loses power: what was not synced to disk is gone. SIGKILL alone does not show that."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import agentcheckpoint as ac

from .server_agent import Account, Diary, fork, paid_step
from .server_evidence import Stored, read
from .servers import Server, until

ENOUGH = 5_000
"""Bytes of the log that surely hold a run's first claim and some of its steps."""
STEPS_AFTER = 3
"""Steps that a living worker goes on with once the server is back."""


def shim(room: Path) -> Path:
    """The compiled ``fsync.c``. Raises ``NotHere`` where it cannot be."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotHere("power loss: there is no C compiler (cc) for the fsync shim")
    library = room / "fsync.so"
    source = Path(__file__).with_name("fsync.c")
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], capture_output=True, text=True
    )
    if built.returncode:
        raise NotHere(f"power loss: the fsync shim cannot be compiled: {built.stderr[-300:]}")
    return library


class NotHere(Exception):
    """This machine cannot play it."""


class Mains:
    """A server's power supply: the server is run with the shim, and loses what that did not see synced."""

    def __init__(self, binary: str, room: Path, fsync: str, library: Path) -> None:
        environment = {**os.environ, "LD_PRELOAD": str(library)}
        self.server = Server(binary, room, {"appendfsync": fsync}, environment)
        self.server.ask("SET", "first", "1")
        try:
            until(lambda: self.synced() > 0, "a sync is seen")
        except TimeoutError:
            self.server.kill()
            raise NotHere(f"power loss: {binary} does not load the fsync shim") from None

    def synced(self) -> int:
        """Bytes that no power loss takes."""
        return sum(map(_synced, self.server.logs()))

    def fail(self) -> None:
        """The power goes, and comes back."""
        self.server.kill()
        for log in self.server.logs():
            os.truncate(log, _synced(log))
        self.server.start()


def _synced(log: Path) -> int:
    note = log.with_name(log.name + ".synced")
    return int(note.read_text() or 0) if note.exists() else 0


def _steps(run_id: str, url: str, diary: Diary, more: Callable[[int], bool]) -> None:
    """A worker that makes one paid step after another."""
    n = 0
    with ac.run(run_id, store=url) as run:
        while more(n):
            slot = f"s[{n}]"
            diary.see(slot, lambda: run.llm(paid_step("s", str(n)), diary.work, slot))  # noqa: B023 (called at once)
            n += 1
            time.sleep(0.0005)


def _live(run_id: str, url: str, diary: Diary, more: Callable[[int], bool]) -> None:
    warnings.simplefilter("ignore")  # everysec weakens the promise, and is meant
    try:
        _steps(run_id, url, diary, more)
    except ac.AgentCheckpointError as exc:
        diary.write("told", "", type(exc).__name__, None)
    else:
        diary.write("done")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a power loss took, and what is wrong with what came after it."""

    lost: int
    """Checkpoints that were acknowledged, and are gone."""
    named: bool
    """The worker was told so."""
    wrong: list[str]


def play(mains: Mains, room: Path, rng: random.Random, *, heir: bool) -> Outcome:
    """A worker commits away, and the power fails. Then the worker itself goes on, or it dies too and an heir does."""
    server, run_id = mains.server, f"power-{room.name}"
    diary, back = Diary(room / run_id), room / f"{run_id}-back"
    left_to_do: list[int] = []

    def more(n: int) -> bool:
        if not left_to_do and back.exists():
            left_to_do.append(n + STEPS_AFTER)
        return not left_to_do or n < left_to_do[0]

    synced = mains.synced()
    child = fork(lambda: _live(run_id, server.url, diary, more))
    if rng.random() < 0.7:  # else the whole run may be lost, which is another case
        until(lambda: mains.synced() > synced + ENOUGH, "a part of the run is synced")
    time.sleep(rng.uniform(0.1, 0.6))
    os.kill(child, signal.SIGSTOP)
    mains.fail()
    before, left = diary.account(), read(server, run_id)
    back.touch()
    os.kill(child, signal.SIGKILL if heir else signal.SIGCONT)
    os.waitpid(child, 0)
    lost = [slot for slot in before.seen if left is None or slot not in left.done()]
    if not heir:
        after = diary.account()
        named = any(error == "CheckpointsLost" for _, error, _ in after.told)
        return Outcome(len(lost), named, list(_wrong_of_the_living(lost, named, after)))
    count = len(before.bought)
    os.waitpid(fork(lambda: _live(run_id, server.url, diary, lambda n: n < count)), 0)
    return Outcome(len(lost), False, list(_wrong_of_the_heir(left, read(server, run_id), diary.account(), before)))


def _wrong_of_the_living(lost: list[str], named: bool, after: Account) -> Iterator[str]:
    if lost and not named:
        yield f"{len(lost)} acknowledged checkpoints are gone, and the worker that knew them was told {after.told}"
    if not lost and not after.done:
        yield f"nothing is lost, and the worker was told {after.told}"
    again = [slot for slot, bought in after.bought.items() if len(bought) > 1]
    if again:
        yield f"bought again, silently: {again}"
    if named and after.bought.keys() - after.seen.keys() - {slot for slot, _, receipt in after.told if receipt}:
        yield f"bought and not carried: {after.bought.keys() - after.seen.keys()}"


def _wrong_of_the_heir(left: Stored | None, now: Stored | None, after: Account, before: Account) -> Iterator[str]:
    kept = left.done() if left is not None else {}
    recorded = now.done() if now is not None else {}
    if not after.done:
        yield f"the heir did not come to its end: {after.told}"
    for slot, bought in after.bought.items():
        standing = recorded.get(slot, [])
        if now is None or len(standing) != 1:
            yield f"{slot}: {len(standing)} checkpoints stand"
            continue
        wanted = len(before.bought[slot]) + (slot not in kept)
        if len(bought) != wanted:
            yield f"{slot}: bought {len(bought)} times and not {wanted}"
        if slot in kept and kept[slot][0]["id"] != standing[0]["id"]:
            yield f"{slot}: another checkpoint stands where one was left"
        if now.receipt(standing[0]) != bought[-1] or after.seen[slot][-1] != bought[-1]:
            yield f"{slot}: bought {bought}, recorded {now.receipt(standing[0])}, seen {after.seen[slot]}"

"""A failover to a replica that lags: what the primary acknowledged last is gone, and its epochs are given out again."""

from __future__ import annotations

import os
import random
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import agentcheckpoint as ac
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.resp import pack
from agentcheckpoint.store.wire import Wire

from .server_agent import PRICE, Diary, paid_step
from .server_evidence import Stored, read
from .servers import PATIENCE, Server, until

Who = Literal["an heir", "alone, claimed there", "alone, went on", "alone, settled there"]
"""Who goes on after the failover. *Alone*: only the worker that was at work on the lost primary; it had claimed the
run there, or only committed there, or claimed it again there to settle a doubt."""
WHO: tuple[Who, ...] = ("an heir", "alone, claimed there", "alone, went on", "alone, settled there")


class Pair:
    """A primary and its replica, and one address that leads to the primary until it fails over."""

    def __init__(self, binary: str, room: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for name in ("primary", "replica"):
            (room / name).mkdir()
        self.primary = Server(binary, room / "primary", {"port": port, "repl-diskless-sync-delay": 0})
        self.replica = Server(binary, room / "replica")
        self.replica.ask("REPLICAOF", "127.0.0.1", port)
        self._address = room / "address"
        self._address.symlink_to(self.primary.socket)
        self.url = f"unix://{self._address}"

    def stop_replication(self) -> None:
        """The replica has all that the primary has at this moment, and will lag from here on."""
        until(lambda: _field(self.replica, "master_link_status") == "up", "the replica is linked")
        until(
            lambda: _field(self.replica, "slave_repl_offset") == _field(self.primary, "master_repl_offset"),
            "the replica has caught up",
        )
        self.replica.ask("REPLICAOF", "NO", "ONE")

    def fail_over(self) -> None:
        """The primary dies, and its address leads to the replica."""
        self.primary.kill()
        new = self._address.with_suffix(".new")
        new.symlink_to(self.replica.socket)
        os.replace(new, self._address)

    def close(self) -> None:
        self.primary.kill()
        self.replica.kill()


def _field(server: Server, name: str) -> str:
    lines = server.ask("INFO", "replication").decode().splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith(f"{name}:")), "")


class Scene:
    """One run and its workers; the failover comes in the middle of a paid call of one of them, the stale one.

    Attributes:
        before: steps that the replica has.
        last: the step in whose call the primary dies. Those between are acknowledged by the primary alone.
        same_step: whether the heir makes that step too, before the stale worker is back from its call.
        error: what the stale worker was told.
        seen: what it was given by its steps.
    """

    def __init__(self, pair: Pair, diary: Diary, run_id: str, rng: random.Random) -> None:
        self.pair, self.diary, self.run_id = pair, diary, run_id
        self.before = rng.randint(1, 3)
        self.last = self.before + rng.randint(1, 3)
        self.same_step = rng.random() < 0.5
        self.error: ac.AgentCheckpointError | None = None
        self.seen: dict[str, str] = {}
        self.paid_last = ""
        self.inside, self.go_on = threading.Event(), threading.Event()

    def step(self, run: ac.Run, n: int, during: Callable[[str], None] = lambda receipt: None) -> str:
        """A paid step of any worker."""

        def call() -> dict[str, Any]:
            answer = self.diary.work(f"s[{n}]")
            during(str(answer["receipt"]))
            return answer

        return str(run.llm(paid_step("s", str(n)), call)["receipt"])

    def first(self) -> None:
        """A worker of whom the replica knows all."""
        with ac.run(self.run_id, store=self.pair.url) as run:
            for n in range(self.before):
                self.step(run, n)

    def stale(self, *, replicated: bool) -> None:
        """The worker that is at work when the primary dies. ``replicated``: the replica knows its claim, no more."""
        try:
            with ac.run(self.run_id, store=self.pair.url) as run:
                if replicated:
                    self.pair.stop_replication()
                for n in range(self.last + 1):
                    self.seen[f"s[{n}]"] = self.step(run, n, self._wait if n == self.last else lambda receipt: None)
        except ac.AgentCheckpointError as exc:
            self.error = exc

    def _wait(self, receipt: str) -> None:
        self.paid_last = receipt
        self.inside.set()
        assert self.go_on.wait(PATIENCE)


def play(binary: str, room: Path, rng: random.Random, who: Who, made: Callable[[str, Path], Pair] = Pair) -> list[str]:
    """What is wrong after a failover of such a pair; each of these finds what the primary acknowledged last lost."""
    pair = made(binary, room)
    scene = Scene(pair, Diary(room / "diary"), "failover", rng)
    found: list[str] = []
    try:
        found.extend(SCENES[who](scene))
    except ac.AgentCheckpointError as trouble:
        found.append(f"{type(trouble).__name__}: {trouble}")
    finally:
        scene.go_on.set()
        pair.close()
    return found


@contextmanager
def _at_work(scene: Scene, *, replicated: bool) -> Iterator[None]:
    """The stale worker is inside its paid call; it goes on at the end."""
    worker = threading.Thread(target=scene.stale, kwargs={"replicated": replicated})
    worker.start()
    try:
        until(lambda: scene.inside.is_set() or not worker.is_alive(), "the worker is inside its call")
        yield
    finally:
        scene.go_on.set()
        worker.join()


def _heir(scene: Scene) -> Iterator[str]:
    """He is given the stale worker's very epoch; what that one writes then must land nowhere."""
    pair = scene.pair
    scene.first()
    pair.stop_replication()
    with ExitStack() as until_the_end:
        with _at_work(scene, replicated=False):
            stale = read(pair.primary, scene.run_id)
            pair.fail_over()
            heir = until_the_end.enter_context(ac.run(scene.run_id, store=pair.url))
            scene.step(heir, 0)
            theirs = scene.step(heir, scene.last) if scene.same_step else None
            mine = read(pair.replica, scene.run_id)
        after = read(pair.replica, scene.run_id)
        assert stale is not None and mine is not None and after is not None
        yield from _landed(stale, mine, after)
        for n in range(scene.last + (not scene.same_step)):
            scene.step(heir, n)
    yield from _told(scene, ac.LeaseLost, None if scene.same_step else "rolled back", theirs)
    yield from _wasted(after)
    yield from _whole(scene)


def _landed(stale: Stored, mine: Stored, after: Stored) -> Iterator[str]:
    """What is wrong with the heir's run, before and after the stale worker's write was sent."""
    if stale.head.partition(".")[0] != mine.head.partition(".")[0]:
        yield f"it proves nothing: the heir has {mine.head}, the stale worker {stale.head}"
    if (mine.head, mine.log, mine.results, mine.meta) != (after.head, after.log, after.results, after.meta):
        yield f"the stale worker's write landed: {after.log[len(mine.log) :]}, in {after.head}"
    if stale.head != after.head and (stray := {name for name in after.names if name.startswith(stale.head)}):
        yield f"its keys are left behind: {stray}"


def _alone(scene: Scene, *, replicated: bool) -> Iterator[str]:
    """Nobody else has come: he notices all the same, and whoever comes next goes on with what is left."""
    pair = scene.pair
    scene.first()
    if not replicated:
        pair.stop_replication()
    with _at_work(scene, replicated=replicated):
        pair.fail_over()
    after = read(pair.replica, scene.run_id)
    if replicated:
        yield from _told(scene, ac.CheckpointsLost, "Data was lost", None)
    else:
        yield from _told(scene, ac.LeaseLost, "rolled back", None)
        yield from _wasted(after)
    with ac.run(scene.run_id, store=pair.url) as run:
        for n in range(scene.last + 1):
            scene.step(run, n)
    yield from _whole(scene)


def _settled_there(scene: Scene) -> Iterator[str]:
    """He had claimed the run again on the lost primary, and nothing else is lost: he says so and goes on."""
    pair = scene.pair
    scene.last = scene.before
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with ac.run(scene.run_id, store=pair.url) as run:
            for n in range(scene.before):
                scene.step(run, n)
            with _cut_and_failed_over(pair):
                scene.step(run, scene.last)
    if not any(issubclass(warning.category, ac.DurabilityWarning) for warning in said):
        yield "it was not told that the server was rolled back"
    yield from _whole(scene)
    bought = scene.diary.account().bought
    if any(len(receipts) > 1 for receipts in bought.values()):
        yield f"bought again though nothing was lost: {bought}"


@contextmanager
def _cut_and_failed_over(pair: Pair) -> Iterator[None]:
    """The next checkpoint does not leave; when it is to be sent again, the server fails over."""
    exchange, met = Wire.exchange, 0

    def cut(wire: Wire, commands: Any) -> Any:
        nonlocal met
        met += b'"k":"done"' in pack(commands)
        if met == 1:
            pair.stop_replication()
            met = 2
            wire.close()
            raise Lost("cut, for a test")
        if met == 3:
            met = 4
            pair.fail_over()
        return exchange(wire, commands)

    Wire.exchange = cut  # type: ignore[method-assign]
    try:
        yield
    finally:
        Wire.exchange = exchange  # type: ignore[method-assign]
    assert met >= 4, "the server did not fail over"


def _told(scene: Scene, kind: type[ac.AgentCheckpointError], why: str | None, theirs: str | None) -> Iterator[str]:
    """What is wrong with what the stale worker was told, or given: ``theirs`` is the heir's record of its last step."""
    error, last = scene.error, f"s[{scene.last}]"
    mine = scene.paid_last
    if type(error) is not kind or (why is not None and why not in str(error)):
        yield f"the stale worker was told {error!r}, and not {kind.__name__} ({why})"
    if theirs is not None and scene.seen.get(last) != theirs:
        yield f"it was given {scene.seen.get(last)} for its last step, and the heir has recorded {theirs}"
    carried: Any = error.value if error is not None else None
    if theirs is None and (not carried or carried["receipt"] != mine):
        yield f"it had bought {mine}, and its error carries {carried}"


def _wasted(after: Stored | None) -> Iterator[str]:
    """What the stale worker paid after the failover is in the ledger, whoever owns the run."""
    waste = after.waste if after is not None else []
    if [(entry["bill"], entry["cost"]) for entry in waste] != [("wasted", PRICE)]:
        yield f"it paid once for nothing, and booked as waste is {waste}"


def _whole(scene: Scene) -> Iterator[str]:
    """The run on the new primary, once it is completed: each step stands once, and is the last that was bought."""
    stored = read(scene.pair.replica, scene.run_id)
    if stored is None or stored.meta["state"] != "completed":
        yield f"the run did not come to its end: {stored and stored.meta}"
        return
    bills = Counter(stored.bills().values())
    if (bills["paid"], int(stored.meta["paid"])) != (scene.last + 1, (scene.last + 1) * PRICE):
        yield f"the ledger has {dict(bills)}, the total is {stored.meta['paid']}"
    for n in range(scene.last + 1):
        standing = stored.done().get(f"s[{n}]", [])
        receipts = [stored.receipt(one) for one in standing]
        if len(receipts) != 1 or receipts[0] not in scene.diary.account().bought[f"s[{n}]"]:
            yield f"s[{n}]: {receipts} are recorded"


SCENES: dict[Who, Callable[[Scene], Iterator[str]]] = {
    "an heir": _heir,
    "alone, claimed there": partial(_alone, replicated=False),
    "alone, went on": partial(_alone, replicated=True),
    "alone, settled there": _settled_there,
}

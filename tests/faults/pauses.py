"""Stops workers past their lease, lets heirs take over, lets them go on, and looks for what they should not have done.

The stopped worker is alive, so its heir has to wait for the lease. Scenarios are played many at a time: most of their
time is waiting.
"""

from __future__ import annotations

import os
import random
import select
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

import agentcheckpoint as ac
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.testing.payments import read_payments
from agentcheckpoint.testing.provider import Provider

from .inheritance import after_all, changed_twice, raw, read_diary, stale_writes
from .outside import Fickle
from .paused_walks import async_loops, loops
from .paused_workers import Body, Stage, be_stopped, blocking, live, take_over, unblocking
from .tally import Tally, Violation
from .variants import Variant

ENGINE = "pauses"
AGENTS: Mapping[str, Body] = {
    "blocking": blocking,
    "async": unblocking,
    "loops": loops,
    "async loops": async_loops,
}
BOUGHT = ("blocking", "async")
"""Those that pay: what most controls are shown by."""
EXTENTS = ("claims", "one step", "all")
"""How far the heir comes before the stopped worker goes on."""
AT_ONCE = 12
"""How many scenarios are played at a time."""
PATIENCE = 120.0
"""Seconds until something counts as hanging."""
MOMENTS = 5
"""Each so many-th scenario is stopped at a random moment instead of a point."""
LONGEST = 0.15
"""Seconds after the run's opening within which such a moment lies."""


@dataclass(slots=True)
class Scenario:
    """One agent, stopped at one point, and its heir."""

    agent: str
    point: str
    extent: str
    run_id: str = ""
    zombie: int = 0
    heir: int = 0
    reached: int = 0
    go_on: int = 0
    fired: bool = False
    before: dict[str, Any] = field(default_factory=dict[str, Any])
    wrong: list[str] = field(default_factory=list[str])

    @property
    def seed(self) -> str:
        return f"{self.agent}/{self.point}/{self.extent}"


def search(budget: int, seed: int, broken: Variant | None = None) -> Tally:
    """Plays so many scenarios, chosen by the seed.

    Args:
        budget: how many.
        seed: chooses the agents, the points and how far each heir comes.
        broken: a negative control: the library is broken so in all workers, until that shows. If it says which agents
            show it, all their points are played.
    """
    tally = Tally()
    with broken.broken() if broken is not None else nullcontext(), _stage() as stage:
        if broken is not None and broken.aim is not None:
            points = _points(stage, broken.aim)
            plan = [Scenario(agent, point, EXTENTS[-1]) for agent in points for point in points[agent]]
        else:
            plan = _plan(_points(stage, AGENTS if broken is None else BOUGHT), budget, random.Random(seed))
        for start in range(0, len(plan), AT_ONCE):
            batch = plan[start : start + AT_ONCE]
            _play(batch, stage)
            _count(tally, batch)
            if broken is not None and any(broken.says in violation.what for violation in tally.violations):
                break
    return tally


def replay(seed: str) -> list[str]:
    """What is wrong with one scenario, by the seed of its violation."""
    scenario = Scenario(*seed.split("/"))
    with _stage() as stage:
        _play([scenario], stage)
    return scenario.wrong


def _count(tally: Tally, batch: list[Scenario]) -> None:
    for scenario in batch:
        tally.scenarios += 1
        tally.fired += scenario.fired
        tally.notes[scenario.extent] = tally.notes.get(scenario.extent, 0) + scenario.fired
        tally.violations += [Violation(ENGINE, scenario.seed, what) for what in scenario.wrong]


@contextmanager
def _stage() -> Iterator[Stage]:
    """A store, and a provider in a process of its own: this one has no threads to lose in its forks."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        home = Path(directory)
        (home / "diaries").mkdir()
        hears, tells = os.pipe()
        url = ensure_server(home / "store").url
        provider = _fork(lambda: _provide(home / "journal", tells))
        try:
            yield Stage(url, os.read(hears, 1000).decode(), home / "diaries")
        finally:
            os.kill(provider, signal.SIGKILL)
            os.waitpid(provider, 0)
            os.close(hears)
            os.close(tells)
            stop_server(home / "store")


def _provide(journal: Path, tells: int) -> None:
    provider = Provider(Fickle(), journal=journal)
    os.write(tells, provider.url.encode())
    signal.pause()


def _fork(live: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            live()
        finally:
            os._exit(0)
    return child


def _points(stage: Stage, agents: Iterable[str]) -> dict[str, list[str]]:
    """Where each agent can be stopped, as one that nobody stops has found."""
    found: dict[str, list[str]] = {}
    for agent in agents:
        live(AGENTS[agent], stage, f"warm-{agent}")  # what this process has loaded, its forks need not
        os.waitpid(_fork(lambda agent=agent: be_stopped(stage, AGENTS[agent], f"alone-{agent}", "")), 0)  # type: ignore[misc]
        packets, payments = read_diary(stage.diaries / f"alone-{agent}")["zombie"].points
        found[agent] = [f"packet {n} {when}" for n in range(1, packets + 1) for when in ("before", "after")]
        found[agent] += [f"payment {n} {when}" for n in range(1, payments + 1) for when in ("before", "after")]
    return found


def _plan(points: dict[str, list[str]], budget: int, chance: random.Random) -> list[Scenario]:
    each = [Scenario(agent, point, extent) for agent in points for point in points[agent] for extent in EXTENTS]
    chance.shuffle(each)
    plan = [each[n % len(each)] for n in range(budget)]
    for n in range(0, budget, MOMENTS):
        moment = f"moment {chance.uniform(0, LONGEST):.4f}"
        plan[n] = Scenario(plan[n].agent, moment, plan[n].extent)
    return [Scenario(one.agent, one.point, one.extent) for one in plan]


_runs = iter(range(10**9))


def _play(batch: list[Scenario], stage: Stage) -> None:
    """Plays scenarios side by side, from phase to phase."""
    client = redis.Redis.from_url(stage.url)
    paid_before = len(read_payments(stage.diaries.parent / "journal"))
    for one in batch:
        one.run_id = f"run-{next(_runs)}"
        one.zombie = _fork(lambda one=one: be_stopped(stage, AGENTS[one.agent], one.run_id, one.point))  # type: ignore[misc]
    for one in batch:
        one.fired = _is_stopped(one)
    stopped = [one for one in batch if one.fired]
    for one in stopped:
        _begin_heir(one, stage)
    for one in stopped:
        if not select.select([one.reached], [], [], PATIENCE)[0]:
            one.wrong.append("the heir does not come")
            os.kill(one.heir, signal.SIGKILL)
        else:
            one.before = raw(client, one.run_id)
    for one in stopped:
        os.kill(one.zombie, signal.SIGCONT)
    for one in stopped:
        _end(one, one.zombie, "zombie")
        if one.before:
            one.wrong += stale_writes(client, one.run_id, one.before)
    for one in stopped:
        os.write(one.go_on, b"!")
        _end(one, one.heir, "heir")
        os.close(one.reached)
        os.close(one.go_on)
    _look(batch, stage, paid_before, client)
    client.close()


def _is_stopped(one: Scenario) -> bool:
    """Waits until the worker is stopped, or has come to its end."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if os.waitpid(one.zombie, os.WNOHANG)[0]:
            return False
        if Path(f"/proc/{one.zombie}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.005)
    one.wrong.append("it neither stops nor ends")
    os.kill(one.zombie, signal.SIGKILL)
    os.waitpid(one.zombie, 0)
    return False


def _begin_heir(one: Scenario, stage: Stage) -> None:
    one.reached, tells = os.pipe()
    hears, one.go_on = os.pipe()
    one.heir = _fork(lambda: take_over(stage, AGENTS[one.agent], one.run_id, one.extent, tells, hears))
    os.close(tells)
    os.close(hears)


def _end(one: Scenario, process: int, who: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not os.waitpid(process, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            one.wrong.append(f"the {who} does not end")
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return
        time.sleep(0.005)


def _look(batch: list[Scenario], stage: Stage, paid_before: int, client: redis.Redis) -> None:
    payments = read_payments(stage.diaries.parent / "journal")
    for one in batch:
        diary = read_diary(stage.diaries / one.run_id)
        if one.fired:
            one.wrong += after_all(stage.url, one.run_id, diary, payments)
            one.wrong += changed_twice(client, one.run_id, diary["heir"])
    ledgers = {entry.id for one in batch for entry in ac.get(one.run_id, store=stage.url).ledger}
    unknown = [payment for payment in payments[paid_before:] if payment.client_request_id not in ledgers]
    batch[0].wrong += [f"payment {payment.n} is in no ledger of {len(batch)} runs" for payment in unknown]
    ac.connect(stage.url).close()

"""Workers that die at random race for runs whose steps are transactions on the same keys: a serial history remains."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from faults.servers import Server, binaries
from memory_runs import ask, logged

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done
from agentcheckpoint.store.wire import Wire
from agentcheckpoint.transaction import Transaction

WORKERS, RUNS, STEPS = 4, 12, 6
START, DEATHS = 1_000, 20
BALANCES = ("balance:a", "balance:b")
HISTORY = "history"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(next(iter(binaries().values())), tmp_path) as running:
        for key in BALANCES:
            ask(running.url, "SET", key, str(START))
        yield running


def transfer(tx: Transaction, who: str, amount: int) -> list[int]:
    """Moves an amount, and notes in the same EXEC what it read."""
    before = [int(tx.read("GET", key)) for key in BALANCES]
    after = [before[0] - amount, before[1] + amount]
    for key, balance in zip(BALANCES, after, strict=True):
        tx.queue("SET", key, str(balance))
    tx.queue("RPUSH", HISTORY, json.dumps([who, before, after]))
    return after


def agent(url: str, run_id: str) -> None:
    chance = random.Random(run_id)
    with ac.run(run_id, store=url, lease=1, wait=60) as run:
        for step in range(STEPS):
            run.transaction(ac.Step("move", key=str(step)), transfer, f"{run_id}/{step}", chance.randrange(1, 9))


def worker(url: str, seed: int) -> None:
    """Runs that others may be at, in an order of its own."""
    runs = [f"r{number}" for number in range(RUNS)]
    random.Random(seed).shuffle(runs)
    for run_id in runs:
        try:
            agent(url, run_id)
        except (ac.LeaseLost, ac.RunBusy, ac.StoreUnavailable):  # an heir is at it, or 16 others were faster
            continue


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        try:
            warnings.simplefilter("ignore")
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def race(url: str, seed: int) -> None:
    """Kills one worker after the other, each followed by another; then all runs are done."""
    chance, killed, begun = random.Random(seed), 0, 0
    workers: set[int] = set()
    for _ in range(DEATHS):
        while len(workers) < WORKERS:
            begun += 1
            workers.add(forked(lambda begun=begun: worker(url, seed * 1_000 + begun)))  # type: ignore[misc]
        time.sleep(chance.uniform(0.02, 0.2))
        victim = chance.choice(sorted(workers))
        os.kill(victim, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(victim, 0)[1])
        workers.discard(victim)
    assert killed, "they were all done before"
    for left in workers:
        os.waitpid(left, 0)
    for number in range(RUNS):
        agent(url, f"r{number}")


def history(url: str) -> list[tuple[str, list[int], list[int]]]:
    return [tuple(json.loads(entry)) for entry in ask(url, "LRANGE", HISTORY, "0", "-1")]


def is_serial(found: list[tuple[str, list[int], list[int]]]) -> bool:
    """Each read what the one before it had written."""
    return all(earlier[2] == later[1] for earlier, later in pairwise([("", [], [START, START]), *found]))


def test_each_step_lands_once_and_reads_what_the_one_before_it_wrote(server: Server) -> None:
    race(server.url, seed=1)
    found = history(server.url)
    assert sorted(who for who, *_ in found) == sorted(f"r{r}/{s}" for r in range(RUNS) for s in range(STEPS))
    assert is_serial(found)
    assert [int(ask(server.url, "GET", key)) for key in BALANCES] == found[-1][2]
    recorded = [entry.slot for r in range(RUNS) for entry in logged(server.url, f"r{r}", Done)]
    assert len(recorded) == RUNS * STEPS


def test_reads_that_nobody_watched_would_be_seen(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test above."""
    exchange = Wire.exchange

    def unwatched(wire: Wire, commands: Any) -> Any:
        is_theirs = [command[0] == "WATCH" and command[1] in BALANCES for command in commands]
        return exchange(
            wire, [("ECHO", "") if theirs else command for theirs, command in zip(is_theirs, commands, strict=True)]
        )

    monkeypatch.setattr(Wire, "exchange", unwatched)
    race(server.url, seed=1)
    found = history(server.url)
    assert not is_serial(found)

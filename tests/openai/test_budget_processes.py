"""Real processes under one shared budget, some of them killed: the provider's own journal is the judge."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults.servers import until
from memory_runs import ask
from servers import RedisServer, redis_server
from spender import OUTPUT, POINTS, spend

import agentcheckpoint as ac
from agentcheckpoint.core.budget import Tally
from agentcheckpoint.core.ids import budget_tag
from agentcheckpoint.core.reservations import Book, Reservation, tally
from agentcheckpoint.store import budgets
from agentcheckpoint.store.keys import budget_key
from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.payments import read_payments
from agentcheckpoint.testing.provider import Provider

__all__ = ["redis_server"]
pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

SCRIPT = Path(__file__).with_name("spender.py")
CENT = 10**7


def talkative(request: Request, /) -> Answer:
    """Uses its limit of output to the last token, and takes its time."""
    return Answer(text="word" * OUTPUT, delay=0.02)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def provider(journal: Path) -> Iterator[Provider]:
    with Provider(talkative, journal=journal) as running:
        yield running


@pytest.fixture
def store(redis_server: RedisServer) -> str:
    ask(redis_server.url, "DEL", KEY)
    return redis_server.url


KEY = budget_key(budget_tag("default", "all of them"), "all")


def counted(store: str) -> Tally:
    """What the budget counts, from its reservations; its sums are found to be right."""
    flat: list[bytes] = ask(store, "HGETALL", KEY)
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    book = Book.model_validate_json(fields.pop(b"@"))
    found = tally(map(Reservation.model_validate_json, fields.values()))
    assert (book.sums, book.entries) == (found.total, len(fields))
    return found


def paid(journal: Path) -> int:
    return sum(payment.cost for payment in read_payments(journal))


@contextmanager
def spender(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPT), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def all_at_once(store: str, provider: Provider, count: int, limit: str, calls: int, point: str = "") -> list[Any]:
    """So many processes, started together; what each says in the end."""
    runs = [f"{time.monotonic_ns()}-{n}" for n in range(count)]
    with together(spender(store, provider.url, run_id, limit, str(calls), point) for run_id in runs) as processes:
        assert [said(process) for process in processes] == ["ready"] * count
        for process in processes:
            go(process)
        return [json.loads(said(process)) for process in processes]


@contextmanager
def together(
    spenders: Iterable[AbstractContextManager[subprocess.Popen[str]]],
) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        yield [stack.enter_context(one) for one in spenders]


@pytest.mark.timeout(300)
def test_eight_processes_with_fifty_calls_each_never_overspend(store: str, provider: Provider, journal: Path) -> None:
    limit = 50 * CENT
    ends = all_at_once(store, provider, 8, "0.50", 50)
    answered = sum(end["answered"] for end in ends)
    assert paid(journal) <= limit and len(read_payments(journal)) == answered
    refused = [one for end in ends for one in end["refused"]]
    assert len(refused) == 8 * 50 - answered > 0
    for ceiling, spent, reserved, asked in refused:
        assert ceiling == limit and ceiling - spent - reserved < asked, "refused rightly: less is left than it asks"
    found = counted(store)
    assert found.reserved.usd == found.unresolved.usd == 0
    assert found.paid.usd == paid(journal) == sum(end["spent"] for end in ends)
    worst = max(asked for *_, asked in refused)
    assert limit - found.total.usd < worst * 8, "and what was left was used, up to what was reserved beside it"


@pytest.mark.timeout(300)
def test_without_reservations_they_overspend(store: str, journal: Path) -> None:
    """The negative control: the same look at what was spent, and nothing kept for calls under way."""
    all_have_asked = threading.Barrier(4, timeout=120)

    def patient(request: Request, /) -> Answer:
        all_have_asked.wait()
        return talkative(request)

    with Provider(patient, journal=journal) as provider:
        ends = all_at_once(store, provider, 4, "0.004", 1, "keep nothing")
    assert paid(journal) > 4 * CENT // 10, ends


@pytest.mark.parametrize("point", POINTS)
def test_what_was_reserved_by_a_process_that_is_killed_is_settled_by_its_ledger(
    store: str, provider: Provider, journal: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = f"dies-{point}"
    with spender(store, provider.url, run_id, "0.01", "1", point) as process:
        assert said(process) == "ready"
        go(process)
        assert process.wait(250) == -signal.SIGKILL
    before = counted(store)
    assert before.total.usd >= paid(journal), "however it died, no money is out of sight"
    monkeypatch.setattr(budgets, "GRACE_MS", -61_000)  # as if the reservation had stood for its minute
    spend(store, provider.url, "who needs room", "0.01", 20)
    after = counted(store)
    assert paid(journal) <= after.total.usd <= CENT
    mine = [one for one in reservations(store) if one.run == run_id]
    expected = {"reserved": "released", "intent": "unresolved", "answer": "unresolved", "done": "paid"}
    assert [one.state for one in mine] == [expected.get(point, "paid")]
    entries = ac.get(run_id, store=store).ledger
    assert [entry.bill for entry in entries] == ([] if point == "reserved" else [mine[0].state])
    if mine[0].state == "paid":
        assert mine[0].usd == entries[0].cost


def reservations(store: str) -> list[Reservation]:
    flat: list[bytes] = ask(store, "HGETALL", KEY)
    lines = dict(zip(flat[::2], flat[1::2], strict=True))
    return [Reservation.model_validate_json(line) for name, line in lines.items() if name != b"@"]


@pytest.mark.timeout(300)
def test_processes_that_are_killed_at_any_moment_and_started_again_never_overspend(
    store: str, provider: Provider, journal: Path
) -> None:
    chance, limit = random.Random(4), 15 * CENT
    runs = [f"{time.monotonic_ns()}-{n}" for n in range(3)]
    kills = 0
    for _ in range(3):
        with together(spender(store, provider.url, run, "0.15", "25") for run in runs) as processes:
            assert [said(process) for process in processes] == ["ready"] * len(runs)
            for process in processes:
                go(process)
            for process in processes[:2]:
                enough = len(read_payments(journal)) + chance.randint(1, 8)  # none of them is done by then
                until(lambda n=enough: len(read_payments(journal)) >= n, "they are paying")  # type: ignore[misc]
                time.sleep(chance.uniform(0, 0.03))
                process.kill()
                kills += process.wait() == -signal.SIGKILL
            json.loads(said(processes[2]))
        assert paid(journal) <= counted(store).total.usd <= limit
    assert kills >= 3
    for run in runs[:2]:
        spend(store, provider.url, run, "0.15", 25)
    ledgers = [entry for run in runs for entry in ac.get(run, store=store).ledger]
    spent = sum(entry.cost or 0 for entry in ledgers if entry.bill in ("paid", "wasted"))
    unknown = sum(entry.bound or 0 for entry in ledgers if entry.bill == "unresolved")
    assert spent <= paid(journal) <= spent + unknown
    assert paid(journal) <= counted(store).total.usd <= limit

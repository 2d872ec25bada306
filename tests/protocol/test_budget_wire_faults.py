"""A shared budget on a line that is cut, swallows replies, or is late: one reservation, one settlement, no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from memory_runs import ask
from proxy import Fate, Proxy
from servers import RedisServer

import agentcheckpoint as ac
from agentcheckpoint.core.ids import budget_tag
from agentcheckpoint.core.reservations import Book, Reservation, tally
from agentcheckpoint.store import budgets, patience
from agentcheckpoint.store.keys import budget_key

CENT = 10**7
EXECS = ("reserve", "intent", "commit", "settle")
"""What the EXECs of a paid step are for, in their order."""


@pytest.fixture
def proxy(tmp_path: Path, redis_server: RedisServer) -> Iterator[Proxy]:
    made = Proxy(tmp_path, redis_server.socket)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0.01, 0.02, 0.05, 0.1, 0.2))


def store_of(proxy: Proxy, fate: Fate) -> ac.Store:
    """It is hurried where a reply is to come too late; elsewhere a slow machine would make faults of its own."""
    store = ac.connect(redis.Redis(unix_socket_path=proxy.path))
    if fate == "delay":
        store._dial.timeout = 0.3
    return store


def found(url: str, name: str) -> list[tuple[str, int]]:
    """The reservations of a budget, whose sums and number are found to be right."""
    flat: list[bytes] = ask(url, "HGETALL", budget_key(budget_tag("default", name), "all"))
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    book = Book.model_validate_json(fields.pop(b"@"))
    all_of_them = [Reservation.model_validate_json(line) for line in fields.values()]
    assert (book.sums, book.entries) == (tally(all_of_them).total, len(fields))
    return [(one.state, one.usd) for one in all_of_them]


def buy() -> str:
    return "bought"


STEP = ac.Step("buy", cost="0.01")


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("fate", ["cut before", "cut after", "delay"])
@pytest.mark.parametrize("nth", range(1, 5), ids=EXECS)
def test_a_bad_line_reserves_once_and_settles_once(
    proxy: Proxy, redis_server: RedisServer, run_id: str, nth: int, fate: Fate, colour: str
) -> None:
    budget = ac.Budget("0.01", name=run_id)
    store = store_of(proxy, fate)

    async def on_a_loop() -> None:
        async with ac.run(run_id, store=store, budget=budget) as run:
            proxy.arm(**{f"n{nth}": fate})
            assert await run.step(STEP, buy) == "bought"

    if colour == "async":
        asyncio.run(on_a_loop())
    else:
        with ac.run(run_id, store=store, budget=budget) as run:
            proxy.arm(**{f"n{nth}": fate})
            assert run.step(STEP, buy) == "bought"
    assert found(redis_server.url, run_id) == [("paid", CENT)]
    assert [entry.bill for entry in ac.get(run_id, store=redis_server.url).ledger] == ["paid"]


def test_a_budget_whose_server_is_gone_stops_the_call_and_gives_its_room_back(
    proxy: Proxy, redis_server: RedisServer, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, calls = ac.Budget("0.01", name=run_id), []
    fates: Any = {f"n{n}": "cut after" for n in range(1, 9)}
    with ac.run(run_id, store=store_of(proxy, "cut after"), budget=budget) as run:
        proxy.arm(**fates)
        with pytest.raises(ac.StoreUnavailable, match="The call was not made"):
            run.step(STEP, lambda: calls.append(1))
        proxy.arm()
    assert not calls and found(redis_server.url, run_id) == [("reserved", CENT)]
    monkeypatch.setattr(budgets, "GRACE_MS", -61_000)  # as if it had stood for its minute
    with ac.run(f"{run_id}-2", store=redis_server.url, budget=budget) as run:
        run.step(STEP, buy)
    assert sorted(found(redis_server.url, run_id)) == [("paid", CENT), ("released", 0)]

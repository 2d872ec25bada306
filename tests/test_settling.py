"""Settling afterwards: what became of an attempt that may have been billed, said by hand or by the provider's bill."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from faults.servers import Server
from memory_runs import ask, fresh
from servers import REAL

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.price import Price
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.wire import Wire

PRICES = {"m": Price(input="1", output="2")}
MILLION = ac.Usage(input_tokens=1_000_000)

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


def paid(name: str, **options: Any) -> ac.Step:
    return ac.Step(name, model="m", prices=PRICES, usage=lambda _: MILLION, **options)


def dies() -> None:
    raise KeyboardInterrupt


def with_doubt(url: str, run_id: str = "r") -> str:
    """A run with one attempt that is paid ($1) and one that is unresolved; the id of the latter."""
    with pytest.raises(KeyboardInterrupt), ac.run(run_id, store=url) as run:
        run.llm(paid("sure"), str, "answer")
        run.llm(paid("doubtful"), dies)
    (entry,) = unresolved(url, run_id)
    return entry.id


def unresolved(url: str, run_id: str = "r") -> list[ac.LedgerEntry]:
    return [entry for entry in ac.get(run_id, store=url).ledger if entry.bill == "unresolved"]


def spent(url: str, run_id: str = "r") -> tuple[int, int, int]:
    cost = ac.get(run_id, store=url).cost
    return cost.paid, cost.wasted, cost.unresolved


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ({"paid": "0.012"}, (10**9, 12_000_000, 0)),
        ({"paid": Decimal("0.012"), "wasted": False}, (10**9 + 12_000_000, 0, 0)),
        ({"usage": MILLION, "prices": PRICES}, (10**9, 10**9, 0)),
        ({"not_billed": True}, (10**9, 0, 0)),
    ],
)
def test_an_unresolved_attempt_is_settled_by_hand(said: dict[str, Any], counts: tuple[int, int, int]) -> None:
    url = fresh()
    entry_id = with_doubt(url)
    assert spent(url) == (10**9, 0, 1)
    settled = ac.settle("r", entry_id, store=url, **said)
    assert settled.id == entry_id and (settled.price or "").startswith("by hand")
    assert spent(url) == counts
    with ac.run("r", store=url) as run:
        run.llm(paid("sure"), str, "answer")
        assert (run.cost.paid, run.cost.wasted, run.cost.unresolved) == counts
    assert spent(url) == counts


def test_usage_without_a_price_is_unpriced_and_no_zero() -> None:
    url = fresh()
    settled = ac.settle("r", with_doubt(url), usage=MILLION, store=url)
    assert settled.cost is None and ac.get("r", store=url).cost.unpriced == 1
    assert ac.costs(store=url, prices=PRICES).total.wasted == 10**9


def test_what_was_said_by_hand_can_be_said_anew_and_the_log_is_as_it_was() -> None:
    url = fresh()
    entry_id = with_doubt(url)
    before = ac.get("r", store=url).entries
    for dollars in ("12", "0.012", "0.012"):
        ac.settle("r", entry_id, paid=dollars, store=url)
    assert spent(url) == (10**9, 12_000_000, 0)
    assert ac.get("r", store=url).entries == before


def test_what_the_log_has_settled_stays_so() -> None:
    url = fresh()
    with_doubt(url)
    (sure,) = (entry for entry in ac.get("r", store=url).ledger if entry.bill == "paid")
    with pytest.raises(ac.RunMisuse, match=r"settled already: paid, \$1\.00"):
        ac.settle("r", sure.id, paid="5", store=url)
    assert spent(url) == (10**9, 0, 1)


def test_a_log_that_settles_it_later_counts_more() -> None:
    url = fresh()

    def slow() -> str:
        (under_way,) = unresolved(url)
        ac.settle("r", under_way.id, paid="7", store=url)
        assert spent(url) == (0, 7 * 10**9, 0)
        return "answer"

    with ac.run("r", store=url) as run:
        run.llm(paid("slow"), slow)
    assert spent(url) == (10**9, 0, 0)


def test_what_a_replaced_worker_has_booked_is_not_said_anew() -> None:
    url = fresh()
    keys = RunKeys(run_tag("default", "r"))

    def overtaken() -> str:
        ask(url, "DEL", keys.lease(ask(url, "GET", keys.head).decode()))
        with ac.run("r", store=url):
            pass
        return "late"

    with pytest.raises(ac.LeaseLost), ac.run("r", store=url) as run:
        run.llm(paid("late"), overtaken)
    (entry,) = ac.get("r", store=url).ledger
    with pytest.raises(ac.RunMisuse, match="settled already: wasted"):
        ac.settle("r", entry.id, not_billed=True, store=url)
    assert spent(url) == (0, 10**9, 0)


@pytest.mark.parametrize(
    "said", [{}, {"paid": "1", "not_billed": True}, {"paid": "1", "usage": MILLION}], ids=["none", "two", "both"]
)
def test_one_thing_has_to_be_said(said: dict[str, Any]) -> None:
    with pytest.raises(ac.RunMisuse, match="say one of"):
        ac.settle("r", "x", store=fresh(), **said)


def test_there_must_be_such_a_run_and_attempt_and_amount() -> None:
    url = fresh()
    entry_id = with_doubt(url)
    with pytest.raises(ac.RunMisuse, match="no attempt 'other'"):
        ac.settle("r", "other", paid="1", store=url)
    with pytest.raises(ac.RunNotFound):
        ac.settle("nobody", entry_id, paid="1", store=url)
    with pytest.raises(TypeError, match="float"):
        ac.settle("r", entry_id, paid=0.1, store=url)  # type: ignore[arg-type]
    assert unresolved(url)


def test_a_run_that_is_deleted_meanwhile_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    entry_id = with_doubt(url)
    at_the_write(monkeypatch, lambda: ac.delete("r", store=url))
    with pytest.raises(ac.RunNotFound):
        ac.settle("r", entry_id, paid="1", store=url)
    assert ask(url, "EXISTS", RunKeys(run_tag("default", "r")).waste) == 0


def at_the_write(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Acts once, right before a settlement is written."""
    exchange = Wire.exchange
    waiting = [act]

    def exchanged(wire: Wire, commands: Any) -> Any:
        if commands[0] == ("MULTI",) and commands[1][0] == "HSET" and commands[1][1].endswith(":waste") and waiting:
            waiting.pop()()
        return exchange(wire, commands)

    monkeypatch.setattr(Wire, "exchange", exchanged)


@pytest.mark.parametrize("binary", REAL)
def test_a_settlement_whose_reply_is_lost_counts_once(
    binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server(binary, tmp_path):
        url = f"unix://{tmp_path}/socket"
        entry_id = with_doubt(url)
        exchange, lost = Wire.exchange, [True]

        def losing(wire: Wire, commands: Any) -> Any:
            replies = exchange(wire, commands)
            if commands[-1] == ("EXEC",) and commands[1][0] == "HSET" and lost:
                lost.pop()
                wire.close()
                raise Lost("for a test")
            return replies

        monkeypatch.setattr(Wire, "exchange", losing)
        assert ac.settle("r", entry_id, paid="0.5", store=url).cost == 5 * 10**8
        assert not lost and spent(url) == (10**9, 5 * 10**8, 0)


# -- by the provider's bill -------------------------------------------------------------------------------------------


def test_a_bill_settles_all_that_matches_once() -> None:
    url = fresh()
    ids = [with_doubt(url, f"r{n}") for n in range(3)]
    bill = [(ids[0], "0.25"), ("somebody-else's", "99"), (ids[1], "0.1"), (ids[1], "0.0000000004"), (ids[1], "0.2")]
    done = ac.settle_billed(bill, store=url)
    assert [(item.run, item.entry.cost) for item in done.settled] == [("r0", 250_000_000), ("r1", 300_000_000)]
    assert [spent(url, f"r{n}") for n in range(3)] == [
        (10**9, 250_000_000, 0),
        (10**9, 300_000_000, 0),
        (10**9, 0, 1),
    ]
    again = ac.settle_billed([(ids[0], "77"), *bill], store=url)
    assert again.settled == () and spent(url, "r0") == (10**9, 250_000_000, 0)


def test_a_bill_may_name_the_providers_own_ids_and_tokens() -> None:
    url = fresh()
    with_doubt(url)
    keys = RunKeys(run_tag("default", "r"))
    log = keys.log(ask(url, "GET", keys.head).decode())
    for n, line in enumerate(ask(url, "LRANGE", log, "0", "-1")):
        text = line.decode().replace('"bill":"unresolved"', '"bill":"unresolved","request_id":"req_1"')
        ask(url, "LSET", log, str(n), text)
    done = ac.settle_billed([("req_1", MILLION), ("req_1", MILLION)], prices=PRICES, wasted=False, store=url)
    assert [item.entry.price for item in done.settled] == ["the provider's bill: table (m)"]
    assert spent(url) == (3 * 10**9, 0, 0)


def test_a_bill_that_contradicts_itself_settles_nothing() -> None:
    url = fresh()
    entry_id = with_doubt(url)
    with pytest.raises(ac.RunMisuse, match="dollars and tokens"):
        ac.settle_billed([(entry_id, "1"), (entry_id, MILLION)], store=url)
    with pytest.raises(ValueError, match="not an amount"):
        ac.settle_billed([(entry_id, "-1")], store=url)
    assert unresolved(url)


def test_a_bill_is_no_reason_to_stop_at_a_run_that_cannot_be_read() -> None:
    url = fresh()
    broken, ids = with_doubt(url, "broken"), [with_doubt(url, "r")]
    keys = RunKeys(run_tag("default", "broken"))
    ask(url, "LSET", keys.log(ask(url, "GET", keys.head).decode()), "0", "{")
    done = ac.settle_billed([(broken, "1"), (ids[0], "1")], store=url)
    assert [item.run for item in done.settled] == ["r"]
    assert len(done.notes) == 1 and "'broken'" in done.notes[0]

"""A paid step around paid calls: the money is booked once, with the calls inside, whatever becomes of the outer one."""

from __future__ import annotations

from typing import Any

import pytest
from memory_runs import fresh

import agentcheckpoint as ac
from agentcheckpoint.core.models import LedgerEntry

PRICES = {"m-1": ac.Price(input="2", output="10")}
ANSWER = {"model": "m-1", "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}}
PRICE = 1000 * 2_000 + 200 * 10_000
OUTER, INNER = ac.Step("outer", prices=PRICES), ac.Step("inner", prices=PRICES)


def bills(url: str) -> dict[str, list[str]]:
    """What became of each attempt's money, by slot."""
    found: dict[str, list[str]] = {}
    for entry in ac.get("r", store=url).ledger:
        found.setdefault(entry.slot, []).append(entry.bill)
    return found


def ask() -> Any:
    return ANSWER


@pytest.mark.parametrize("key", [None, "k"])
def test_a_paid_step_around_a_paid_step_is_booked_once(key: str | None) -> None:
    url = fresh()
    inner = ac.Step("inner", key=key, prices=PRICES)
    with ac.run("r", store=url) as run:
        assert run.llm(OUTER, lambda: run.llm(inner, ask)) == ANSWER
        assert (run.cost.paid, run.cost.unresolved, run.cost.unpriced) == (PRICE, 0, 0)
    slot = "outer/inner" if key is None else "outer/inner[k]"
    assert bills(url) == {"outer": ["not_billed"], slot: ["paid"]}
    (entry,) = [entry for entry in ac.get("r", store=url).ledger if entry.slot == "outer"]
    assert entry.price == "the calls inside it carry the money"


def test_money_that_lies_deeper_counts_too() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.llm(OUTER, lambda: run.step("plain", lambda: run.llm(INNER, ask)))
        assert run.cost.paid == PRICE
    assert bills(url) == {"outer": ["not_billed"], "outer/plain/inner": ["paid"]}


def test_an_outer_step_whose_calls_are_replayed_carries_no_money_either() -> None:
    url = fresh()

    def dies() -> Any:
        run.step("plain", lambda: run.llm(INNER, ask))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        run.llm(OUTER, dies)
    assert bills(url) == {"outer": ["unresolved"], "outer/plain/inner": ["paid"]}
    with ac.run("r", store=url) as run:
        assert run.llm(OUTER, lambda: run.step("plain", lambda: run.llm(INNER, ask))) == ANSWER
        assert (run.cost.paid, run.cost.unresolved) == (PRICE, 0)
    assert bills(url) == {"outer": ["not_billed", "not_billed"], "outer/plain/inner": ["paid"]}


def test_an_outer_step_that_fails_or_is_refused_leaves_no_second_debt() -> None:
    url = fresh()

    def fails() -> Any:
        run.llm(INNER, ask)
        raise ValueError("bad")

    with ac.run("r", store=url) as run:
        with pytest.raises(ValueError):
            run.llm(OUTER, fails)
        with pytest.raises(ac.StepRejected):
            run.llm(ac.Step("refused", accept=lambda _: False), lambda: run.llm(INNER, ask))
        assert (run.cost.paid, run.cost.wasted, run.cost.unresolved) == (2 * PRICE, 0, 0)
    assert bills(url) == {
        "outer": ["not_billed"],
        "outer/inner": ["paid"],
        "refused": ["not_billed"],
        "refused/inner": ["paid"],
    }


@pytest.mark.parametrize("inside", ["plain", "nothing"])
def test_a_paid_step_that_encloses_no_money_carries_its_own(inside: str) -> None:
    url = fresh()

    def pays() -> Any:
        if inside == "plain":
            run.step("plain", str)
        return ANSWER

    with ac.run("r", store=url) as run:
        run.llm(OUTER, pays)
        assert run.cost.paid == PRICE
    assert bills(url) == {"outer": ["paid"]}


async def test_on_a_loop_too() -> None:
    url = fresh()

    async def asks() -> Any:
        return ANSWER

    async def encloses() -> Any:
        return await run.llm(INNER, asks)

    async with ac.run("r", store=url) as run:
        assert await run.llm(OUTER, encloses) == ANSWER
        assert run.cost.paid == PRICE


def test_only_attempts_of_the_step_itself_are_rolled_up() -> None:
    from agentcheckpoint.core.ledger import rolled_up

    def entry(id: str, slot: str, bill: Any = "unresolved") -> LedgerEntry:
        return LedgerEntry(id=id, bill=bill, slot=slot, at=1)

    outer = entry("o", "x")
    money = [outer, entry("a", "x"), entry("b", "x", "paid"), entry("c", "y"), entry("d", "x/chat", "paid")]
    known = {one.id: one for one in money}
    assert [(one.id, one.bill) for one in rolled_up(known, outer, 5)] == [("a", "not_billed"), ("o", "not_billed")]
    known["d"] = entry("d", "x/chat", "not_billed")
    assert rolled_up(known, outer, 5) == ()
    known["d"] = entry("d", "xy/chat", "paid")
    assert rolled_up(known, outer, 5) == ()

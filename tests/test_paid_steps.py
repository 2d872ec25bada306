"""Paid tools: a step with a price, a charge of its own, other providers' calls under a budget."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from memory_runs import fresh, logged, packets

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.core.models import Done, Failed, Intent, LedgerEntry

CENT = 10**7
SEARCH = ac.Step("search", cost="0.01")


def search(query: str = "q") -> list[str]:
    return [query]


def breaks(query: str = "q") -> list[str]:
    raise OSError("no answer")


def ledger(url: str, run_id: str = "r") -> list[LedgerEntry]:
    return list(ac.get(run_id, store=url).ledger)


# -- Step(cost=) ------------------------------------------------------------------------------------------------------


def test_a_step_with_a_price_is_an_entry_of_the_ledger_and_is_paid_once() -> None:
    url = fresh()
    for _ in range(2):
        with ac.run("r", store=url) as run:
            assert run.step(SEARCH, search) == ["q"]
            assert run.cost.paid == CENT
    (entry,) = ledger(url)
    assert (entry.bill, entry.slot, entry.cost, entry.bound, entry.price) == (
        "paid",
        "search",
        CENT,
        CENT,
        "Step(cost=)",
    )
    assert len(logged(url, "r", Intent)) == 1


def test_its_intent_is_stored_before_it_is_called() -> None:
    url, seen = fresh(), []

    def look() -> None:
        seen.extend(ledger(url))

    with ac.run("r", store=url) as run:
        run.step(SEARCH, look)
    assert [(entry.bill, entry.bound) for entry in seen] == [("unresolved", CENT)]


def test_a_free_step_has_no_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    with ac.run("r", store=fresh(), budget=ac.Budget(0)) as run, packets(monkeypatch) as sent:
        run.step("free", search)
    assert len(sent) == 1


def test_a_price_may_be_read_from_the_result() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step(ac.Step("search", cost=lambda hits: Decimal(len(hits)) / 100), search)
        assert run.cost.paid == CENT


@pytest.mark.parametrize("price", [lambda _: 0.5, lambda _: 1 / 0, lambda _: None], ids=["a float", "raises", "none"])
def test_a_price_that_cannot_be_read_leaves_the_result_and_an_unpriced_entry(price: Any) -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        assert run.step(ac.Step("search", cost=price, max_cost="0.05"), search) == ["q"]
    (entry,) = ledger(url)
    assert (entry.bill, entry.cost, entry.bound) == ("paid", None, 5 * CENT)
    assert str(entry.price).startswith("unpriced: cost= gave no amount")


def test_a_priced_step_that_fails_may_have_been_billed() -> None:
    url = fresh()
    with pytest.raises(OSError, match="no answer"), ac.run("r", store=url) as run:
        run.step(SEARCH, breaks)
    assert str(ac.get("r", store=url).cost) == "spent $0.00 · up to $0.01 unresolved"
    with ac.run("r", store=url) as run:
        run.step(SEARCH, search)
    assert [entry.bill for entry in ledger(url)] == ["unresolved", "paid"]


def test_a_refused_result_of_a_priced_step_is_wasted() -> None:
    url = fresh()
    with pytest.raises(ac.StepRejected), ac.run("r", store=url) as run:
        run.step(ac.Step("search", cost="0.01", accept=lambda hits: len(hits) > 1), search)
    assert [(entry.bill, entry.cost) for entry in ledger(url)] == [("wasted", CENT)]


def test_decorated_tools_have_prices_too() -> None:
    url = fresh()

    @ac.tool(cost="0.01")
    def lookup(name: str) -> str:
        return name

    @ac.step(cost=lambda text: "0.02", max_cost="0.03")
    def render(name: str) -> str:
        return name

    with ac.run("r", store=url, budget=ac.Budget(1)) as run:
        lookup.call({"name": "x"}, id="call_1")
        render("y")
        assert run.cost.paid == 3 * CENT


async def test_a_priced_step_on_a_loop() -> None:
    url = fresh()

    async def later() -> int:
        await asyncio.sleep(0)
        return 1

    async with ac.run("r", store=url, budget=ac.Budget("0.02")) as run:
        assert await asyncio.gather(run.step(SEARCH, later), run.step(SEARCH, later)) == [1, 1]
        with pytest.raises(ac.BudgetExceeded):
            await run.step(SEARCH, later)
        assert run.cost.paid == 2 * CENT


def test_the_two_phase_form_cannot_have_a_price() -> None:
    with ac.run("r", store=fresh()) as run, pytest.raises(ac.RunMisuse, match=r"run\.charge"):
        run.begin(SEARCH, list[str])


def test_a_model_call_with_a_price_of_its_own_keeps_its_tokens() -> None:
    url = fresh()
    answer = {"model": "m", "usage": {"input_tokens": 30, "output_tokens": 4}}
    with ac.run("r", store=url, budget=ac.Budget(1)) as run:
        run.llm(ac.Step("ask", cost="0.01"), lambda: answer)
    (entry,) = ledger(url)
    assert (entry.cost, entry.price) == (CENT, "Step(cost=)")
    assert entry.usage is not None and entry.usage.input_tokens == 30


# -- under a budget ---------------------------------------------------------------------------------------------------


def test_a_priced_step_without_room_is_not_called() -> None:
    url, calls = fresh(), []
    for budget, made in (("0.01", 1), ("0.02", 2)):
        try:
            with ac.run("r", store=url, budget=ac.Budget(budget)) as run:
                for _ in range(3):
                    run.step(SEARCH, lambda: calls.append(1))
        except ac.BudgetExceeded as error:
            assert error.step == "search" + (f"#{made + 1}" if made else "")
        assert len(calls) == made
    assert not logged(url, "r", Failed)


@pytest.mark.parametrize(
    ("step", "kind"),
    [(ac.Step("s", cost=lambda _: "0.01"), "step"), (ac.Step("s"), "llm")],
    ids=["a price that is read later", "another provider's call"],
)
def test_what_nothing_bounds_is_refused_under_a_budget_and_takes_a_bound(step: ac.Step, kind: str) -> None:
    url = fresh()
    with ac.run("r", store=url, budget=ac.Budget(1)) as run, pytest.raises(ac.RunMisuse, match="max_cost="):
        (run.step if kind == "step" else run.llm)(step, search)
    assert not logged(url, "r", Intent)
    bounded = ac.Step("s", cost=step.cost, max_cost="0.05", max_tokens=100)
    with ac.run("r", store=url, budget=[ac.Budget("0.05"), ac.Budget(tokens=100)]) as run:
        (run.step if kind == "step" else run.llm)(bounded, search)
    assert (ledger(url)[0].bound, ledger(url)[0].bound_tokens) == (5 * CENT, 100)


def test_a_hook_cannot_change_a_function() -> None:
    budget = ac.Budget(0, on_exceeded=lambda exceeded: {"model": exceeded.step})
    with ac.run("r", store=fresh(), budget=budget) as run, pytest.raises(ac.RunMisuse, match="wrapped client"):
        run.step(SEARCH, search)


# -- run.charge -------------------------------------------------------------------------------------------------------


def test_a_charge_is_booked_once() -> None:
    url = fresh()
    for attempt in range(2):
        with ac.run("r", store=url) as run:
            assert run.charge("gpu", "0.02") is None
            run.charge(ac.Step("disk", key="a"), "0.01")
            assert (run.cost.paid, run.cost.replayed) == (3 * CENT, 2 * attempt)
    assert [(entry.slot, entry.bill, entry.cost) for entry in ledger(url)] == [
        ("gpu", "paid", 2 * CENT),
        ("disk[a]", "paid", CENT),
    ]
    assert not logged(url, "r", Intent) and len(logged(url, "r", Done)) == 2


def test_a_charge_of_another_amount_is_a_mismatch() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.charge("gpu", "0.02")
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepMismatch, match="recorded 20000000"):
            run.charge("gpu", "0.03")
        run.charge("gpu", "0.020")


def test_a_charge_is_never_refused_and_counts() -> None:
    url = fresh()
    shared = ac.Budget("0.01", name="team")
    with ac.run("r", store=url, budget=[ac.Budget("0.01"), shared]) as run:
        run.charge("gpu", "0.50")
        with pytest.raises(ac.BudgetExceeded) as caught:
            run.step(SEARCH, search)
    assert caught.value.spent == 50 * CENT
    with ac.run("other", store=url, budget=shared) as run, pytest.raises(ac.BudgetExceeded, match=r"paid \$0\.50"):
        run.step(SEARCH, search)


@pytest.mark.parametrize("amount", [0.02, "-1", "much", None])
def test_a_charge_that_is_no_amount_is_refused_before_anything_is_stored(amount: Any) -> None:
    url = fresh()
    with ac.run("r", store=url) as run, pytest.raises((TypeError, ValueError), match=r"run\.charge"):
        run.charge("gpu", amount)
    assert not ledger(url)


def test_a_charge_takes_no_other_price() -> None:
    with ac.run("r", store=fresh()) as run, pytest.raises(ac.RunMisuse, match="leave out cost="):
        run.charge(SEARCH, "0.02")


async def test_a_charge_on_a_loop() -> None:
    url = fresh()
    async with ac.run("r", store=url) as run:
        assert await run.charge("gpu", "0.02") is None
    assert ledger(url)[0].cost == 2 * CENT


def test_where_the_library_is_switched_off_nothing_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    with ac.run("r", budget=ac.Budget(0)) as run:
        run.charge("gpu", "0.02")
        assert run.step(SEARCH, search) == ["q"]


def test_a_charge_whose_caller_never_heard_of_it_is_counted_once() -> None:
    url = fresh()

    def die(_attempt: Any, change: Any) -> None:
        if isinstance(change.entry, Done):
            raise KeyboardInterrupt

    after_commit.append(die)
    try:
        with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
            run.charge("gpu", "0.02")
    finally:
        after_commit.remove(die)
    with ac.run("r", store=url) as run:
        run.charge("gpu", "0.02")
        assert run.cost.paid == 2 * CENT

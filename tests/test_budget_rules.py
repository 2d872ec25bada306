"""What counts towards a budget, which windows there are, and which budgets make no sense."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentcheckpoint as ac
from agentcheckpoint.core.budget import Ask, Sums, counted, over, tally_ledger, window_of
from agentcheckpoint.core.ledger import CostReport, report
from agentcheckpoint.core.models import Bill, LedgerEntry, Usage
from agentcheckpoint.core.reservations import Book, Reservation, tally

USAGE = Usage(input_tokens=30, output_tokens=4)


def entry(bill: Bill, id: str = "a", **facts: Any) -> LedgerEntry:
    return LedgerEntry(id=id, bill=bill, slot="s", **facts)


# -- amounts ----------------------------------------------------------------------------------------------------------


def test_amounts_are_exact_and_never_floats() -> None:
    assert ac.Budget("0.000000001").limits == {"usd": 1}
    assert ac.Budget(2, 10, 3).limits == {"usd": 2 * 10**9, "tokens": 10, "calls": 3}
    assert ac.Budget(Decimal("0.10")).limits == ac.Budget("0.1").limits
    assert ac.Budget(usd=0).limits == {"usd": 0}


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"usd": 0.1}, TypeError, "string"),
        ({"usd": True}, TypeError, "string"),
        ({"usd": "a lot"}, ValueError, "not an amount"),
        ({"usd": "-1"}, ValueError, "not an amount"),
        ({"usd": "0.0000000001"}, ValueError, "nano-dollar"),
        ({"tokens": 1.5}, TypeError, "whole number"),
        ({"calls": True}, TypeError, "whole number"),
        ({"calls": -1}, ValueError, "0 or more"),
        ({}, ValueError, "limits something"),
        ({"assume_output": 5}, ValueError, "limits something"),
        ({"usd": 1, "window": "day"}, ValueError, "with a name"),
        ({"usd": 1, "name": "n", "window": "week"}, ValueError, "'hour', 'day', 'month'"),
        ({"usd": 1, "name": "a\n"}, ac.InvalidName, "budget name"),
        ({"usd": 1, "name": ""}, ac.InvalidName, "budget name"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_when_it_is_written(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        ac.Budget(**options)


@pytest.mark.parametrize("options", [{"cost": 0.1}, {"max_cost": 0.1}, {"max_cost": "x"}])
def test_the_amounts_of_a_step_are_checked_when_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"Step\("):
        ac.Step("s", **options)


def test_a_price_that_would_have_to_be_awaited_is_refused() -> None:
    async def later(result: object) -> str:
        return "1"

    with pytest.raises(ac.RunMisuse, match="cost="):
        ac.Step("s", cost=later)  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", ["2", ["2"], [ac.Budget(1), None]])
def test_a_run_takes_budgets_and_nothing_else(budget: Any) -> None:
    with pytest.raises(ac.RunMisuse, match=r"ac\.Budget"):
        ac.run("r", store="memory://", budget=budget)


# -- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "sums"),
    [
        (entry("paid", cost=5, usage=USAGE, bound=9, bound_tokens=99), Sums(5, 34, 1)),
        (entry("wasted", cost=5, usage=USAGE, bound=9, bound_tokens=99), Sums(5, 34, 1)),
        (entry("paid", cost=None, usage=USAGE, bound=9, bound_tokens=99), Sums(9, 34, 1)),
        (entry("paid", cost=5, usage=None, bound=9, bound_tokens=99), Sums(5, 99, 1)),
        (entry("unresolved", bound=9, bound_tokens=99), Sums(9, 99, 1)),
        (entry("unresolved"), Sums(0, 0, 1)),
        (entry("not_billed", cost=5, bound=9, bound_tokens=99), Sums()),
    ],
    ids=["paid", "wasted", "unpriced: its bound", "unmeasured: its bound", "unresolved: its bound", "no bound", "free"],
)
def test_what_an_attempt_counts_for(one: LedgerEntry, sums: Sums) -> None:
    assert counted(one) == sums


def test_a_tally_tells_apart_what_was_lost_what_is_unknown_and_what_is_under_way() -> None:
    ledger = [
        entry("paid", "a", cost=1),
        entry("wasted", "b", cost=2),
        entry("unresolved", "c", bound=4),
        entry("unresolved", "d", bound=8),
        entry("not_billed", "e", bound=16),
    ]
    found = tally_ledger(ledger, under_way={"d", "a"})
    assert (found.paid.usd, found.wasted.usd, found.unresolved.usd, found.reserved.usd) == (1, 2, 4, 8)
    assert found.total == Sums(15, 0, 4)


def test_a_ceiling_may_be_reached_and_not_passed() -> None:
    limits = ac.Budget("0.000000010", tokens=5).limits
    assert over(limits, Sums(10, 5, 99)) is None
    assert over(limits, Sums(11, 5, 0)) == "usd"
    assert over(limits, Sums(10, 6, 0)) == "tokens"


def test_a_call_needs_a_bound_of_the_kinds_that_are_limited_and_no_other() -> None:
    ask = Ask(None, None, "no price", "no count")
    assert ask.missing([ac.Budget(calls=1)]) is None
    assert ask.missing([ac.Budget(calls=1), ac.Budget(1)]) == "no price"
    assert ask.missing([ac.Budget(tokens=1)]) == "no count"
    assert Ask(1, None, "", "no count").missing([ac.Budget(1)]) is None


RESERVATION = Reservation(state="reserved", usd=9, tokens=99, namespace="n", run="r", step="s", until=1)


def test_a_reservation_becomes_what_the_ledger_says() -> None:
    paid = RESERVATION.outcome(entry("paid", cost=5, usage=USAGE))
    assert (paid.state, paid.sums) == ("paid", Sums(5, 34, 1))
    free = RESERVATION.outcome(entry("not_billed", bound=9))
    assert (free.state, free.sums) == ("released", Sums())
    assert tally([RESERVATION, paid, free]).total == Sums(14, 133, 2)
    assert tally([RESERVATION, paid]).reserved == Sums(9, 99, 1)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=9))
def test_the_sums_of_a_book_are_those_of_its_reservations(amounts: list[tuple[int, int]]) -> None:
    all_of_them = [RESERVATION.model_copy(update={"usd": usd, "tokens": tokens}) for usd, tokens in amounts]
    total = tally(all_of_them).total
    book = Book(namespace="n", name="b", window="all").with_sums(total, len(amounts))
    assert book.sums == total and Book.model_validate_json(book.model_dump_json()) == book


# -- windows ----------------------------------------------------------------------------------------------------------


def test_windows_are_hours_days_and_months_of_utc() -> None:
    east = datetime.timezone(datetime.timedelta(hours=9))
    moment = int(datetime.datetime(2026, 3, 1, 0, 30, tzinfo=east).timestamp() * 1000)  # 15:30 of the day before in UTC
    assert [window_of(window, moment) for window in (None, "hour", "day", "month")] == [
        "all",
        "2026-02-28T15",
        "2026-02-28",
        "2026-02",
    ]
    assert window_of("day", moment + 9 * 3_600_000) == "2026-03-01"


# -- what is shown ----------------------------------------------------------------------------------------------------

CENT = 10**7


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (CostReport(paid=CENT, limit=200 * CENT), "spent $0.01 of $2.00"),
        (CostReport(unresolved=1), "spent $0.00 · 1 unresolved"),
        (CostReport(unresolved=1, unresolved_bound=12 * CENT), "spent $0.00 · up to $0.12 unresolved"),
        (
            CostReport(unresolved=3, unresolved_bound=12 * CENT, unbounded=1),
            "spent $0.00 · 3 unresolved (2 of them up to $0.12)",
        ),
        (CostReport(unresolved=2, unbounded=2), "spent $0.00 · 2 unresolved"),
    ],
)
def test_the_cost_shows_the_ceiling_and_what_the_unknown_may_have_cost(shown: CostReport, text: str) -> None:
    assert str(shown) == text


def test_a_report_sums_the_bounds_of_what_is_unresolved_alone() -> None:
    sums = report([entry("unresolved", "a", bound=4), entry("unresolved", "b"), entry("paid", "c", cost=1, bound=9)])
    assert (sums.unresolved, sums.unresolved_bound, sums.unbounded, sums.paid) == (2, 4, 1, 1)

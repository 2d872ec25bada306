"""The ledger: one entry per attempt whatever was said how often, and totals that are the sum of entries."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcheckpoint.core.ledger import CostReport, fold_entries, money, report
from agentcheckpoint.core.models import Bill, LedgerEntry, Usage

MILL = 10**6
"""A tenth of a cent, in nano-dollars."""

BILLS: tuple[Bill, ...] = ("paid", "wasted", "unresolved", "not_billed")


def entry(attempt: str, bill: Bill, cost: int | None = None, tokens: int | None = None) -> LedgerEntry:
    usage = None if tokens is None else Usage(input_tokens=tokens, output_tokens=1)
    return LedgerEntry(id=attempt, bill=bill, slot="think", cost=cost, usage=usage)


@st.composite
def some_entries(draw: st.DrawFn) -> list[LedgerEntry]:
    cost = st.none() | st.integers(0, 10**12)
    one = st.builds(entry, st.sampled_from("abcde"), st.sampled_from(BILLS), cost, st.none() | st.integers(0, 10**6))
    return draw(st.lists(one, max_size=12))


def test_an_answer_rejected_after_it_was_paid_is_wasted() -> None:
    assert fold_entries([entry("a", "paid", 5), entry("a", "wasted", 5)]) == {"a": entry("a", "wasted", 5)}


def test_what_is_settled_is_never_unresolved_again() -> None:
    log = [entry("a", "unresolved"), entry("a", "paid", 5), entry("a", "unresolved")]
    assert fold_entries(log) == {"a": entry("a", "paid", 5)}


def test_waste_booked_outside_gives_way_to_what_the_log_recorded_after_all() -> None:
    assert fold_entries([entry("a", "paid", 5)], [entry("a", "wasted", 5)]) == {"a": entry("a", "paid", 5)}


def test_an_attempt_that_cost_nothing_by_the_log_is_not_waste() -> None:
    assert fold_entries([entry("a", "not_billed")], [entry("a", "wasted", 5)]) == {"a": entry("a", "not_billed")}


def test_waste_booked_outside_settles_what_the_log_left_unresolved() -> None:
    assert fold_entries([entry("a", "unresolved")], [entry("a", "wasted", 5)]) == {"a": entry("a", "wasted", 5)}


def test_waste_of_an_attempt_that_the_log_never_saw_counts() -> None:
    assert fold_entries([], [entry("a", "wasted", 5)]) == {"a": entry("a", "wasted", 5)}


def test_unresolved_outside_does_not_replace_what_the_log_says_of_an_unresolved_attempt() -> None:
    known = entry("a", "unresolved", tokens=7)
    assert fold_entries([known], [entry("a", "unresolved")]) == {"a": known}


@settings(deadline=None)
@given(some_entries(), some_entries())
def test_each_attempt_counts_once_and_by_the_precedence(log: list[LedgerEntry], outside: list[LedgerEntry]) -> None:
    folded = fold_entries(log, outside)
    assert set(folded) == {one.id for one in (*log, *outside)}
    for attempt, counted in folded.items():
        inside = [one for one in log if one.id == attempt]
        apart = [one for one in outside if one.id == attempt]
        settled_inside = [one for one in inside if one.bill != "unresolved"]
        settled_apart = [one for one in apart if one.bill != "unresolved"]
        if settled_inside:
            assert counted == settled_inside[-1]
        elif settled_apart:
            assert counted in settled_apart
            assert counted.bill == max((one.bill for one in settled_apart), key=("not_billed", "wasted", "paid").index)
        else:
            assert counted in (inside[-1:] or apart)


@settings(deadline=None)
@given(some_entries(), some_entries(), st.randoms(use_true_random=False))
def test_the_order_of_what_stands_outside_does_not_matter(
    log: list[LedgerEntry], outside: list[LedgerEntry], random: Random
) -> None:
    shuffled = list(outside)
    random.shuffle(shuffled)
    assert fold_entries(log, outside) == fold_entries(log, shuffled)


@settings(deadline=None)
@given(some_entries())
def test_in_the_log_only_the_order_within_one_attempt_matters(log: list[LedgerEntry]) -> None:
    assert fold_entries(log) == fold_entries(sorted(log, key=lambda one: one.id))


@settings(deadline=None)
@given(some_entries(), some_entries())
def test_saying_everything_twice_changes_nothing(log: list[LedgerEntry], outside: list[LedgerEntry]) -> None:
    once = fold_entries(log, outside)
    assert fold_entries(log + log, outside + outside) == once
    assert fold_entries(once.values()) == once


@settings(deadline=None)
@given(some_entries(), some_entries())
def test_totals_are_the_sum_of_the_entries(log: list[LedgerEntry], outside: list[LedgerEntry]) -> None:
    folded = fold_entries(log, outside)
    sums = report(folded)
    bought = [one for one in folded.values() if one.bill in ("paid", "wasted")]
    costs = [one.cost for one in bought if one.cost is not None]
    assert sums.paid + sums.wasted == sums.spent == sum(costs)
    assert sums.spent_usd * 10**9 == sums.spent
    assert sums.unpriced == len(bought) - len(costs)
    free = sum(one.bill == "not_billed" for one in folded.values())
    assert sums.attempts == len(folded) == len(bought) + sums.unresolved + free
    measured = [one.usage for one in bought if one.usage is not None]
    assert sums.usage.input_tokens == sum(usage.input_tokens for usage in measured)
    assert sums.usage.output_tokens == len(measured)


def test_paid_and_wasted_are_kept_apart_and_unresolved_is_no_money() -> None:
    entries = [entry("a", "paid", 5), entry("b", "wasted", 3), entry("c", "unresolved", 9), entry("d", "wasted")]
    sums = report(entries)
    assert (sums.paid, sums.wasted, sums.spent, sums.unresolved, sums.unpriced) == (5, 3, 8, 1, 1)
    assert sums.wasted_unpriced == 1


def test_a_report_of_entries_in_the_order_of_their_log_counts_each_attempt_once() -> None:
    sums = report([entry("a", "paid", 5), entry("a", "wasted", 5)])
    assert (sums.paid, sums.wasted, sums.attempts) == (0, 5, 1)


def test_dollars_are_exact_decimals() -> None:
    sums = CostReport(paid=41_000_001, wasted=2, saved=1)
    assert (sums.spent_usd, sums.saved_usd) == (Decimal("0.041000003"), Decimal("0.000000001"))


@pytest.mark.parametrize(
    ("sums", "text"),
    [
        (CostReport(), "spent $0.00"),
        (CostReport(paid=41 * MILL), "spent $0.041"),
        (
            CostReport(paid=41 * MILL, saved=37 * MILL, replayed=4),
            "spent $0.041 · saved $0.037 (4 steps replayed)",
        ),
        (CostReport(saved=37 * MILL, replayed=1), "spent $0.00 · saved $0.037 (1 step replayed)"),
        (CostReport(replayed=2), "spent $0.00 · saved $0.00 (2 steps replayed)"),
        (CostReport(replayed=2, saved_unpriced=2), "spent $0.00 · saved unknown (2 steps replayed, 2 unpriced)"),
        (
            CostReport(saved=MILL, replayed=2, saved_unpriced=1),
            "spent $0.00 · saved $0.001 (2 steps replayed, 1 unpriced)",
        ),
        (CostReport(paid=41 * MILL, wasted=2 * MILL), "spent $0.043 (wasted $0.002)"),
        (CostReport(paid=41 * MILL, unresolved=1), "spent $0.041 · 1 unresolved"),
        (CostReport(paid=41 * MILL, unpriced=2), "spent $0.041 · 2 unpriced"),
        (CostReport(unpriced=2), "spent unknown · 2 unpriced"),
        (CostReport(unpriced=2, wasted_unpriced=1), "spent unknown (1 wasted) · 2 unpriced"),
        (
            CostReport(paid=41 * MILL, wasted=2 * MILL, unpriced=1, wasted_unpriced=1),
            "spent $0.043 (wasted $0.002, 1 unpriced) · 1 unpriced",
        ),
        (
            CostReport(paid=41 * MILL, wasted=2 * MILL, saved=37 * MILL, replayed=4, unresolved=1, unpriced=2),
            "spent $0.043 (wasted $0.002) · saved $0.037 (4 steps replayed) · 1 unresolved · 2 unpriced",
        ),
    ],
)
def test_the_report_reads_as_one_line(sums: CostReport, text: str) -> None:
    assert str(sums) == text


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (None, "—"),
        (0, "$0.00"),
        (41_000_000, "$0.041"),
        (1_200_000_000, "$1.20"),
        (12_000, "$0.000012"),
        (1, "$0.000000001"),
        (50_000_000, "$0.05"),
        (100_000_000, "$0.10"),
        (41_456_700, "$0.041"),
        (41_500_000, "$0.042"),
        (99_600_000, "$0.10"),
        (999_999_999, "$1.00"),
        (1_999_999_999, "$2.00"),
        (12_345_678_901, "$12.35"),
        (1_234_567_500_000_000, "$1,234,567.50"),
        (-41_000_000, "-$0.041"),
    ],
)
def test_money_is_written_to_the_cent_or_to_two_significant_digits(nano: int | None, text: str) -> None:
    assert money(nano) == text


@settings(deadline=None)
@given(st.integers(1, 10**18))
def test_money_as_written_is_within_a_twentieth_of_money_as_counted(nano: int) -> None:
    shown = Decimal(money(nano).removeprefix("$").replace(",", "")) * 10**9
    assert abs(shown - nano) * 20 <= nano


def test_a_mapping_and_its_entries_give_the_same_report() -> None:
    entries: Sequence[LedgerEntry] = [entry("a", "paid", 5, 10), entry("b", "unresolved")]
    assert report({one.id: one for one in entries}) == report(entries) == report(iter(entries))

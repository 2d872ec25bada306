"""Sums of costs: by whatever key, they are sums of the same attempts, and what is unknown stays unknown."""

from __future__ import annotations

import itertools
from decimal import Context, Decimal, localcontext
from typing import get_args

import pytest
from hypothesis import given, settings
from ledgers import DAY, Run, many_runs, runs

from agentcheckpoint.core.cost_rows import CostRow, Tally, rest_of, row_record
from agentcheckpoint.core.ids import names_in
from agentcheckpoint.core.ledger import report
from agentcheckpoint.core.models import Closed, LedgerEntry, Opened, Usage
from agentcheckpoint.core.price import Price
from agentcheckpoint.core.settling import Said, priced_anew, settled
from agentcheckpoint.core.spending import KEYS, TOKENS, By, Chosen, Item, Spent, account

EVERY_KEY: tuple[By, ...] = get_args(By)


def tally(by: By, some: list[Run], chosen: Chosen | None = None) -> Tally:
    sums = Tally(by)
    for run in some:
        items = account(run.id, run.entries, run.outside)
        sums.add(item for item in items if chosen is None or item in chosen)
    return sums


def amounts(row: CostRow) -> tuple[int, ...]:
    tokens = 0 if row.usage is None else row.usage.input_tokens
    return (
        row.attempts, row.paid or 0, row.wasted or 0, row.unpriced, row.unresolved, row.unresolved_bound or 0,
        row.unbounded, row.unmeasured, tokens,
    )  # fmt: skip


def whole(rows: list[CostRow]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*map(amounts, rows), strict=True))) or (0,) * 9


@pytest.mark.parametrize("by", [key for key in EVERY_KEY if key != "tag"])
@settings(deadline=None, max_examples=40)
@given(some=many_runs())
def test_by_each_key_the_rows_add_up_to_the_whole(by: By, some: list[Run]) -> None:
    sums = tally(by, some)
    rows = list(sums.rows())
    assert whole(rows) == amounts(sums.total)
    assert len({row.key for row in rows}) == len(rows)
    if by in ("run", "agent", "day"):
        assert sum(row.saved or 0 for row in rows) == sums.total.saved
    else:
        assert {row.saved for row in rows} <= {None}, "what replays saved is not known by this key"


@settings(deadline=None, max_examples=40)
@given(some=many_runs())
def test_an_attempt_with_several_tags_counts_in_each_and_once_in_the_total(some: list[Run]) -> None:
    sums = tally("tag", some)
    items = [item for run in some for item in account(run.id, run.entries, run.outside) if isinstance(item, Spent)]
    assert sum(row.attempts for row in sums.rows()) == sum(max(1, len(item.tags)) for item in items)
    assert sums.total.attempts == len(items)
    for row in sums.rows():
        mine = [item.entry for item in items if (row.key in item.tags if row.key is not None else not item.tags)]
        assert (row.attempts, row.paid or 0) == (len(mine), report(mine).paid)


@settings(deadline=None, max_examples=40)
@given(run=runs("r"))
def test_a_runs_row_says_what_the_run_itself_says(run: Run) -> None:
    own, row = run.report(), tally("run", [run]).total
    assert (row.attempts, row.paid or 0, row.wasted or 0) == (own.attempts, own.paid, own.wasted)
    assert (row.unpriced, row.unresolved, row.saved, row.replayed) == (
        own.unpriced,
        own.unresolved,
        own.saved,
        own.replayed,
    )
    assert (row.usage or Usage()) == own.usage
    models = own.to_records()
    assert sum(record["attempts"] for record in models) == own.attempts
    assert sum(record["paid_usd"] or 0 for record in models) == Decimal(own.paid) / 10**9


@settings(deadline=None, max_examples=40)
@given(some=many_runs())
def test_the_days_of_a_time_add_up_to_it(some: list[Run]) -> None:
    borders = [n * DAY for n in range(20_000, 20_005)]
    parts = [tally("model", some, Chosen(since, until)).total for since, until in itertools.pairwise(borders)]
    assert whole(parts) == amounts(tally("model", some, Chosen(borders[0], borders[-1])).total)
    days = {row.key: amounts(row) for row in tally("day", some).rows()}
    assert {amounts(part) for part in parts if part.attempts} <= set(days.values())


@settings(deadline=None, max_examples=40)
@given(some=many_runs())
def test_rows_that_are_left_out_are_counted_in_one(some: list[Run]) -> None:
    rows = list(tally("step", some).rows())
    assert whole([*rows[:1], rest_of(rows[1:])])[:7] == whole(rows)[:7]


def bought(**said: object) -> LedgerEntry:
    return LedgerEntry.model_validate({"id": "a", "bill": "paid", "slot": "s", **said})


def row_of(*entries: LedgerEntry) -> CostRow:
    sums = Tally("run")
    sums.add(Spent("r", None, (), 1, entry.model_copy(update={"id": str(n)})) for n, entry in enumerate(entries))
    return sums.total


def test_nothing_known_is_unknown_and_something_known_is_a_sum_that_says_what_it_lacks() -> None:
    blank, known = bought(), bought(cost=7, usage=Usage(input_tokens=3))
    assert (row_of(blank).paid, row_of(blank).spent, row_of(blank).usage) == (None, None, None)
    assert (row_of(blank, known).paid, row_of(blank, known).unpriced, row_of(blank, known).unmeasured) == (7, 1, 1)
    assert (row_of().paid, row_of(bought(bill="not_billed")).spent) == (0, 0)
    unbound, bound = bought(bill="unresolved"), bought(bill="unresolved", bound=5)
    assert (row_of(unbound).unresolved, row_of(unbound).unresolved_bound) == (1, None)
    assert (row_of(unbound, bound).unresolved_bound, row_of(unbound, bound).unbounded) == (5, 1)
    record = row_record(row_of(blank), "run")
    assert record["paid_usd"] is None and {record[kind] for kind in TOKENS} == {None}


def test_what_only_a_replaced_worker_has_booked_belongs_to_the_attempt_of_its_time() -> None:
    log = [Opened(id=f"o{n}", at=n * 100, attempt=n, worker="w", tags=(f"t{n}",)) for n in (1, 2, 3)]
    waste = [bought(id=str(at), bill="wasted", at=at) for at in (50, 150, 350)]
    found = [item for item in account("r", log, waste) if isinstance(item, Spent)]
    assert [(item.attempt, item.tags) for item in found] == [(None, ()), (1, ("t1",)), (3, ("t3",))]


def test_the_agent_is_the_runs_and_the_tags_are_the_attempts() -> None:
    first = Opened(id="o1", at=1, attempt=1, worker="w", agent="research", tags=("a", "b"))
    again = Opened(id="o2", at=2, attempt=2, worker="w")
    ends = [Closed(id=f"c{n}", at=n, state="retryable", saved=n, entries=(bought(id=str(n)),)) for n in (1, 2)]
    items: list[Item] = account("r", [first, ends[0], again, ends[1]])
    assert {item.agent for item in items} == {"research"}
    assert [KEYS["tag"](item) for item in items if isinstance(item, Spent)] == [("a", "b"), (None,)]


@pytest.mark.parametrize(
    ("slot", "names"),
    [
        ("plan", "plan"),
        ("plan#12", "plan"),
        ("fetch[https://x/y#2]", "fetch"),
        ("answer#2/fetch[a]]]/think#3", "answer/fetch/think"),
        ("f[a]]/b[c]/g", "f/g"),
    ],
)
def test_a_steps_name_has_no_key_and_no_number(slot: str, names: str) -> None:
    assert names_in(slot) == names


def test_a_price_table_prices_what_was_unknown_and_the_models_that_it_names() -> None:
    usage, table = Usage(input_tokens=1_000_000), {"m": Price(input="2", output="0")}
    assert priced_anew(bought(model="m", usage=usage), table).cost == 2 * 10**9
    assert priced_anew(bought(model="m", usage=usage, cost=5, price="genai-prices"), table).cost == 2 * 10**9
    other = bought(model="n", provider="openai", usage=usage, cost=5, price="genai-prices")
    assert priced_anew(other, table) is other, "a price that is known does not change for another model's sake"
    assert priced_anew(other, {}) is other


def test_what_somebody_said_it_cost_is_not_priced_anew() -> None:
    usage, table = Usage(input_tokens=1_000_000), {"m": Price(input="2", output="0")}
    open_entry = bought(bill="unresolved", model="m", usage=usage)
    by_amount = settled(open_entry, Said(nano=7), "the provider's bill", {})
    assert priced_anew(by_amount, table) is by_amount
    by_tokens = settled(open_entry, Said(usage=usage), "by hand", {"m": Price(input="1", output="0")})
    assert (by_tokens.cost, by_tokens.bill, by_tokens.price) == (10**9, "wasted", "by hand: table (m)")
    assert priced_anew(by_tokens, table).cost == 2 * 10**9


def test_records_are_exact_in_any_decimal_context() -> None:
    with localcontext(Context(prec=3)):
        record = row_record(row_of(bought(cost=9_007_199_254_740_991)), "run")
    assert str(record["paid_usd"]) == "9007199.254740991"

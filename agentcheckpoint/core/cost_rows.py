"""Rows of costs: items summed by a key, run by run. What is unknown stays unknown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.models import Bill, Usage
from agentcheckpoint.core.spending import KEYS, TOKENS, By, Item, Key, Saved, usd
from agentcheckpoint.core.usage import total_usage


@dataclass(frozen=True, slots=True)
class CostRow:
    """What all attempts of one key came to. Amounts are nano-dollars.

    Attributes:
        key: a run, agent, model, step, tag or day; ``None``: it has none, or it is unknown.
        runs: how many runs have a part in it.
        attempts: attempts to buy an answer.
        paid: for attempts whose answers count, as far as known; ``None``: of none of them it is known.
        wasted: the same for attempts whose answers were refused or lost.
        unpriced: how many paid or wasted attempts have no known cost.
        unresolved: how many attempts may have been billed; nobody knows yet.
        unresolved_bound: what those cost at most, as far as they have a bound; ``None``: none of them has.
        unbounded: how many of them have no bound.
        usage: tokens of the paid and wasted attempts, as far as measured; ``None``: of none of them they are known.
        unmeasured: how many of these have no known tokens.
        saved: what replays did not pay, as far as known; ``None``: it is not known by this key.
        replayed: how many steps were replayed; ``None``: the same.
    """

    key: Key
    runs: int = 0
    attempts: int = 0
    paid: int | None = 0
    wasted: int | None = 0
    unpriced: int = 0
    unresolved: int = 0
    unresolved_bound: int | None = 0
    unbounded: int = 0
    usage: Usage | None = None
    unmeasured: int = 0
    saved: int | None = 0
    replayed: int | None = 0

    @property
    def spent(self) -> int | None:
        """Nano-dollars paid and wasted, as far as known; ``None``: nothing of it is known."""
        known = [amount for amount in (self.paid, self.wasted) if amount is not None]
        return sum(known) if len(known) == 2 or any(known) else None


_COUNTED: tuple[Bill, ...] = ("paid", "wasted", "unresolved")


@dataclass(slots=True)
class _Sums:
    """A row while it is being summed."""

    runs: int = 0
    attempts: int = 0
    known: dict[Bill, list[int]] = field(default_factory=lambda: {bill: [0, 0, 0] for bill in _COUNTED})
    """Count, count without an amount, and sum, by what became of the money."""
    usage: Usage = field(default_factory=Usage)
    measured: int = 0
    unmeasured: int = 0
    saved: int = 0
    replayed: int = 0

    def add(self, item: Item) -> None:
        if isinstance(item, Saved):
            self.saved += item.nano
            self.replayed += item.replayed
            return
        entry = item.entry
        self.attempts += 1
        if entry.bill == "not_billed":
            return
        amount = entry.bound if entry.bill == "unresolved" else entry.cost
        known = self.known[entry.bill]
        known[0] += 1
        known[1] += amount is None
        known[2] += amount or 0
        if entry.bill == "unresolved":
            return
        if entry.usage is None:
            self.unmeasured += 1
        else:
            self.measured += 1
            self.usage = total_usage((self.usage, entry.usage))

    def row(self, key: Key, *, has_saved: bool) -> CostRow:
        amounts = {bill: None if n and n == gaps else total for bill, (n, gaps, total) in self.known.items()}
        return CostRow(
            key=key,
            runs=self.runs,
            attempts=self.attempts,
            paid=amounts["paid"],
            wasted=amounts["wasted"],
            unpriced=self.known["paid"][1] + self.known["wasted"][1],
            unresolved=self.known["unresolved"][0],
            unresolved_bound=amounts["unresolved"],
            unbounded=self.known["unresolved"][1],
            usage=None if self.unmeasured and not self.measured else self.usage,
            unmeasured=self.unmeasured,
            saved=self.saved if has_saved else None,
            replayed=self.replayed if has_saved else None,
        )


class Tally:
    """Sums items by a key, run by run. It keeps the sums alone."""

    def __init__(self, by: By) -> None:
        self._by: By = by
        self._rows: dict[Key, _Sums] = {}
        self._whole = _Sums()

    def add(self, items: Iterable[Item]) -> None:
        """Adds the items of one run."""
        touched: set[Key] = set()
        is_empty = True
        for item in items:
            is_empty = False
            self._whole.add(item)
            for key in KEYS[self._by](item):
                touched.add(key)
                self._rows.setdefault(key, _Sums()).add(item)
        for key in touched:
            self._rows[key].runs += 1
        self._whole.runs += not is_empty

    @property
    def total(self) -> CostRow:
        """All items, each once."""
        return self._whole.row(None, has_saved=True)

    def rows(self) -> Iterator[CostRow]:
        """The days in their order; else the dearest first."""
        has_saved = self._by not in ("model", "step")
        rows = [sums.row(key, has_saved=has_saved) for key, sums in self._rows.items()]
        if self._by == "day":
            return iter(sorted(rows, key=lambda row: (row.key is None, row.key or "")))
        return iter(sorted(rows, key=lambda row: (-(row.spent or 0), -row.attempts, row.key is None, row.key or "")))


def rest_of(rows: Sequence[CostRow]) -> CostRow:
    """Several rows as one, whose runs and tokens are left out: rows may share runs."""

    def known(amounts: Iterable[int | None]) -> int | None:
        there = [amount for amount in amounts if amount is not None]
        return sum(there) if there else None

    return CostRow(
        key=f"and {len(rows)} more",
        attempts=sum(row.attempts for row in rows),
        paid=known(row.paid for row in rows),
        wasted=known(row.wasted for row in rows),
        unpriced=sum(row.unpriced for row in rows),
        unresolved=sum(row.unresolved for row in rows),
        unresolved_bound=known(row.unresolved_bound for row in rows),
        unbounded=sum(row.unbounded for row in rows),
        saved=known(row.saved for row in rows),
        replayed=known(row.replayed for row in rows),
    )


def amount_text(row: CostRow) -> str:
    """What is unresolved in a row, for people: its bound, and how many attempts have none."""
    if not row.unresolved:
        return ""
    if row.unresolved_bound is None:
        return f"{row.unresolved} unknown"
    return f"≤ {money(row.unresolved_bound)}" + (f", {row.unbounded} unknown" if row.unbounded else "")


def row_record(row: CostRow, by: str, *, of_runs: bool = True) -> dict[str, Any]:
    """The row as a record: dollars as exact decimals, ``None`` for what is unknown."""
    tokens = None if row.usage is None else row.usage.model_dump(exclude={"hosted_tools"})
    return {
        by: row.key,
        **({"runs": row.runs} if of_runs else {}),
        "attempts": row.attempts,
        "paid_usd": usd(row.paid),
        "wasted_usd": usd(row.wasted),
        "unpriced": row.unpriced,
        "unresolved": row.unresolved,
        "unresolved_bound_usd": usd(row.unresolved_bound),
        "unbounded": row.unbounded,
        **({"saved_usd": usd(row.saved), "replayed": row.replayed} if of_runs else {}),
        "unmeasured": row.unmeasured,
        **{kind: None if tokens is None else tokens[kind] for kind in TOKENS},
        "hosted_tools": None if row.usage is None else row.usage.hosted_tools,
    }

"""The account of every attempt: entries in, totals out. A total is always the sum of entries, one per attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

from agentcheckpoint.core import ids
from agentcheckpoint.core.models import Bill, Done, LedgerEntry, LogEntry, Usage
from agentcheckpoint.core.shown import Records, Shown
from agentcheckpoint.core.usage import total_usage

_BOUGHT: frozenset[Bill] = frozenset({"paid", "wasted"})
_OUTSIDE_RANK: dict[Bill, int] = {"unresolved": 0, "not_billed": 1, "wasted": 2, "paid": 3}
_NANO_DIGITS = 9


def fold_entries(log: Iterable[LedgerEntry], outside: Iterable[LedgerEntry] = ()) -> dict[str, LedgerEntry]:
    """Reduce what was said about each attempt to the one entry that counts: record over waste over unresolved.

    Within the log the later entry wins, since a paid answer may be rejected afterwards; only *unresolved* never
    replaces an entry that is settled. What stands outside the log has no order, and counts only where the log has not
    settled the attempt: a fenced-off worker books as waste what its commit may well have recorded.

    Args:
        log: the entries of a run's log, in its order.
        outside: the entries booked apart from the log, in any order.

    Returns:
        One entry per attempt id.
    """
    folded: dict[str, LedgerEntry] = {}
    for entry in log:
        known = folded.get(entry.id)
        if known is None or not _settled(known) or _settled(entry):
            folded[entry.id] = entry
    for attempt, entry in _fold_outside(outside).items():
        known = folded.get(attempt)
        if known is None or (not _settled(known) and _settled(entry)):
            folded[attempt] = entry
    return folded


def _settled(entry: LedgerEntry) -> bool:
    return entry.bill != "unresolved"


def _fold_outside(entries: Iterable[LedgerEntry]) -> dict[str, LedgerEntry]:
    folded: dict[str, LedgerEntry] = {}
    for entry in entries:
        known = folded.get(entry.id)
        if known is None or _outside_weight(known) < _outside_weight(entry):
            folded[entry.id] = entry
    return folded


def _outside_weight(entry: LedgerEntry) -> tuple[int, bool, int, str]:
    # The last member only makes the choice the same whatever the order.
    return _OUTSIDE_RANK[entry.bill], entry.cost is not None, entry.cost or 0, entry.model_dump_json()


@dataclass(frozen=True)
class CostReport(Shown, Records):
    """What was bought, what was bought for nothing, and what replays did not have to buy.

    Attributes:
        paid: nano-dollars of attempts whose answers count, as far as their cost is known.
        wasted: nano-dollars of attempts whose answers were refused or lost, as far as their cost is known.
        unresolved: how many attempts may have been billed; nobody knows yet.
        unpriced: how many paid or wasted attempts have no known cost.
        attempts: how many attempts there were in all.
        saved: nano-dollars that replays did not pay, as far as known.
        replayed: how many steps were replayed.
        saved_unpriced: how many answers that were replayed have no known cost.
        wasted_unpriced: how many wasted attempts have no known cost.
        unresolved_bound: nano-dollars that the unresolved attempts cost at most, as far as they have a bound.
        unbounded: how many unresolved attempts have no bound.
        limit: nano-dollars that the run may cost, by a budget of its own; ``None``: there is none.
        usage: the tokens of the paid and wasted attempts, as far as they were measured.
        entries: the attempts themselves.
    """

    paid: int = 0
    wasted: int = 0
    unresolved: int = 0
    unpriced: int = 0
    attempts: int = 0
    saved: int = 0
    replayed: int = 0
    saved_unpriced: int = 0
    wasted_unpriced: int = 0
    unresolved_bound: int = 0
    unbounded: int = 0
    limit: int | None = None
    usage: Usage = field(default_factory=Usage)
    entries: tuple[LedgerEntry, ...] = field(default=(), repr=False, compare=False)

    @property
    def spent(self) -> int:
        """Nano-dollars paid and wasted, as far as known."""
        return self.paid + self.wasted

    @property
    def spent_usd(self) -> Decimal:
        """Dollars paid and wasted, as far as known."""
        return _dollars(self.spent)

    @property
    def saved_usd(self) -> Decimal:
        """Dollars that replays did not pay, as far as known."""
        return _dollars(self.saved)

    def __str__(self) -> str:
        ceiling = "" if self.limit is None else f" of {money(self.limit)}"
        parts = [f"spent {_known(self.spent, self.unpriced)}{ceiling}"]
        if self.wasted:
            gaps = f", {self.wasted_unpriced} unpriced" if self.wasted_unpriced else ""
            parts[0] += f" (wasted {money(self.wasted)}{gaps})"
        elif self.wasted_unpriced:
            parts[0] += f" ({self.wasted_unpriced} wasted)"
        if self.replayed or self.saved:
            steps = "1 step" if self.replayed == 1 else f"{self.replayed} steps"
            gaps = f", {self.saved_unpriced} unpriced" if self.saved_unpriced else ""
            parts.append(f"saved {_known(self.saved, self.saved_unpriced)} ({steps} replayed{gaps})")
        if self.unresolved:
            parts.append(self._unresolved())
        if self.unpriced:
            parts.append(f"{self.unpriced} unpriced")
        return " · ".join(parts)

    def _unresolved(self) -> str:
        if self.unresolved_bound and not self.unbounded:
            return f"up to {money(self.unresolved_bound)} unresolved"
        bounded = f" ({self.unresolved - self.unbounded} of them up to {money(self.unresolved_bound)})"
        return f"{self.unresolved} unresolved{bounded if self.unresolved_bound else ''}"

    def to_records(self) -> list[dict[str, Any]]:
        """One record for each model: attempts, dollars paid, wasted and unresolved, and tokens by kind."""
        from agentcheckpoint.core import report_card  # it reads ledgers itself

        return report_card.records_of(self)

    def _repr_html_(self) -> str:
        from agentcheckpoint.core import report_card

        return report_card.card_of(self)


def report(
    entries: Mapping[str, LedgerEntry] | Iterable[LedgerEntry],
    *,
    saved: int = 0,
    replayed: int = 0,
    saved_unpriced: int = 0,
    limit: int | None = None,
) -> CostReport:
    """Sum a ledger.

    Args:
        entries: what ``fold_entries`` returned, or entries in the order of their log, which are folded first.
        saved: nano-dollars that replays did not pay.
        replayed: how many steps were replayed.
        saved_unpriced: how many answers that were replayed have no known cost.
        limit: nano-dollars that the run may cost.
    """
    given = cast(Mapping[str, LedgerEntry], entries).values() if isinstance(entries, Mapping) else entries
    folded = list(fold_entries(given).values())
    bought = [entry for entry in folded if entry.bill in _BOUGHT]
    open_bounds = [entry.bound for entry in folded if not _settled(entry)]
    return CostReport(
        paid=sum(entry.cost or 0 for entry in bought if entry.bill == "paid"),
        wasted=sum(entry.cost or 0 for entry in bought if entry.bill == "wasted"),
        unresolved=len(open_bounds),
        unresolved_bound=sum(bound or 0 for bound in open_bounds),
        unbounded=sum(bound is None for bound in open_bounds),
        limit=limit,
        unpriced=sum(entry.cost is None for entry in bought),
        attempts=len(folded),
        saved=saved,
        replayed=replayed,
        saved_unpriced=saved_unpriced,
        wasted_unpriced=sum(entry.bill == "wasted" and entry.cost is None for entry in bought),
        usage=total_usage(entry.usage for entry in bought if entry.usage is not None),
        entries=tuple(folded),
    )


def money(nano: int | None) -> str:
    """Write nano-dollars for people: to the cent, or two significant digits where that is finer; ``—`` if unknown."""
    if nano is None:
        return "—"
    size = abs(nano)
    decimals = min(_NANO_DIGITS, max(2, _NANO_DIGITS + 2 - len(str(size))))
    step = 10 ** (_NANO_DIGITS - decimals)
    whole, rest = divmod((size + step // 2) // step, 10**decimals)
    fraction = f"{rest:0{decimals}d}"
    fraction = fraction[:2] + fraction[2:].rstrip("0")
    return f"{'-' if nano < 0 else ''}${whole:,}.{fraction}"


def _known(nano: int, unpriced: int) -> str:
    """An amount; if nothing but unknown prices stands behind a 0, it does not read as one."""
    return "unknown" if unpriced and not nano else money(nano)


def _dollars(nano: int) -> Decimal:
    return Decimal(f"{nano}e-{_NANO_DIGITS}")  # a constructor is exact in any decimal context


def logged_money(entries: Iterable[LogEntry]) -> Iterable[LedgerEntry]:
    """The ledger entries of a log, in its order."""
    for entry in entries:
        yield from getattr(entry, "entries", ())


def totals(entries: Iterable[LedgerEntry]) -> dict[str, int]:
    """The sums that are stored beside the log, nano-dollars."""
    sums = {"paid": 0, "wasted": 0}
    for entry in entries:
        if entry.bill in sums and entry.cost is not None:
            sums[entry.bill] += entry.cost
    return sums


def growth(known: Mapping[str, LedgerEntry], entries: Iterable[LedgerEntry]) -> dict[str, int]:
    """By how much these entries change the totals."""
    fresh = list(entries)
    if not fresh:
        return {}
    before = totals(known[entry.id] for entry in fresh if entry.id in known)
    after = totals(fresh)
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def rolled_up(money: Mapping[str, LedgerEntry], outer: LedgerEntry, ms: int) -> tuple[LedgerEntry, ...]:
    """Books a paid step that encloses paid calls as not billed: only attempts carry money, and these are inside it.

    Args:
        money: what is known of each attempt of the run.
        outer: the step's own attempt, as its intent has it.
        ms: how long it took, milliseconds.

    Returns:
        The step's attempt, and those before it that ended without a word; nothing if it encloses no money.
    """
    known, inside = list(money.values()), f"{outer.slot}/"
    if not any(entry.slot.startswith(inside) and entry.bill != "not_billed" for entry in known):
        return ()
    silent = [entry for entry in known if entry.slot == outer.slot and not _settled(entry) and entry.id != outer.id]
    why = {"bill": "not_billed", "price": "the calls inside it carry the money"}
    return *(entry.model_copy(update=why) for entry in silent), outer.model_copy(update={**why, "ms": ms})


def answer_money(done: Done) -> tuple[LedgerEntry, ...]:
    """The attempts that bought the recorded answer, or will have: what a background answer costs is known later. The
    record may settle others besides. Of a record that was taken over: those that bought it elsewhere.
    """
    bought = done.entries if done.elsewhere is None else done.elsewhere
    return tuple(entry for entry in bought if entry.bill in ("paid", "unresolved"))


def spared(replayed: Sequence[Done], records: Iterable[Done], money: Mapping[str, LedgerEntry]) -> list[LedgerEntry]:
    """The attempts that replays did not have to make again: those of the replayed steps, and of all inside them.

    Args:
        replayed: the records that answered calls, each as often as it did.
        records: what is recorded of the run.
        money: what is known of each attempt.
    """
    slots, seen = {done.slot for done in replayed}, {done.id for done in replayed}
    inside = [done for done in records if done.id not in seen and ids.is_inside(done.slot, slots)]
    return [money.get(entry.id, entry) for done in (*replayed, *inside) for entry in answer_money(done)]


def attempt_report(
    money: Mapping[str, LedgerEntry],
    waste: Mapping[str, LedgerEntry],
    replayed: Sequence[Done],
    records: Iterable[Done],
    limit: int | None,
) -> CostReport:
    """What a run cost so far, and what this attempt of it saved; see ``report`` and ``spared``."""
    spared_entries = spared(replayed, records, money)
    priced = [entry.cost for entry in spared_entries if entry.cost is not None]
    return report(
        fold_entries(money.values(), waste.values()),
        saved=sum(priced),
        replayed=len(replayed),
        saved_unpriced=len(spared_entries) - len(priced),
        limit=limit,
    )


def as_waste(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """The same attempts, where nothing came of what was paid. What was not billed, or is unresolved, stays so."""
    return [entry.model_copy(update={"bill": "wasted"}) if entry.bill == "paid" else entry for entry in entries]

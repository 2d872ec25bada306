"""What a run spent and saved, item by item, and the keys under which an item counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any, Literal, TypeAlias

from agentcheckpoint.core.amounts import EXACT
from agentcheckpoint.core.ids import names_in
from agentcheckpoint.core.ledger import fold_entries, logged_money
from agentcheckpoint.core.models import Closed, LedgerEntry, LogEntry, Opened, Usage

By: TypeAlias = Literal["run", "agent", "model", "step", "tag", "day"]
"""What costs are summed by."""
TOKENS = tuple(name for name in Usage.model_fields if name != "hosted_tools")
"""The kinds of tokens."""
Key: TypeAlias = str | None
"""``None``: unknown, or none."""


@dataclass(frozen=True, slots=True)
class Spent:
    """One attempt to buy an answer, and where it belongs.

    Attributes:
        run: the run's id.
        agent: the decorated agent that the run belongs to.
        tags: those of the run's attempt in which it was made.
        attempt: the number of that attempt; ``None``: unknown.
        entry: what the ledger says of it.
        is_deleted: the run was deleted, and its ledger kept.
    """

    run: str
    agent: str | None
    tags: tuple[str, ...]
    attempt: int | None
    entry: LedgerEntry
    is_deleted: bool = False

    @property
    def at(self) -> int:
        """When it was sent, milliseconds since the epoch on the store's clock."""
        return self.entry.at


@dataclass(frozen=True, slots=True)
class Saved:
    """What one attempt of a run did not pay, since it replayed."""

    run: str
    agent: str | None
    tags: tuple[str, ...]
    nano: int
    replayed: int
    at: int


Item: TypeAlias = Spent | Saved


def account(run: str, entries: Sequence[LogEntry], outside: Iterable[LedgerEntry] = ()) -> list[Item]:
    """A run's log, and what stands beside it, as items: each attempt once, and what each end says was saved."""
    opened = [entry for entry in entries if isinstance(entry, Opened)]
    agent = next((entry.agent for entry in opened if entry.agent is not None), None)
    made_in: dict[str, Opened | None] = {}
    items: list[Item] = []
    current: Opened | None = None
    for entry in entries:
        if isinstance(entry, Opened):
            current = entry
        for bought in logged_money((entry,)):
            made_in.setdefault(bought.id, current)
        if isinstance(entry, Closed) and (entry.saved or entry.replayed):
            items.append(Saved(run, agent, _tags(current), entry.saved, entry.replayed, entry.at))
    for bought in fold_entries(logged_money(entries), outside).values():
        # What only a replaced worker has booked stands in no attempt: by its time it was the last before.
        by_time = [attempt for attempt in opened if attempt.at <= bought.at]
        within = made_in.get(bought.id, by_time[-1] if by_time else None)
        items.append(Spent(run, agent, _tags(within), None if within is None else within.attempt, bought))
    return items


def _tags(opened: Opened | None) -> tuple[str, ...]:
    return () if opened is None else opened.tags or ()


def iso_time(at_ms: int | None) -> str | None:
    """A moment in UTC, ``2026-11-24T09:30:00.000+00:00``; ``None``: it was not noted, or is no time."""
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC) if at_ms else None
    except (OverflowError, OSError, ValueError):
        return None
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _of_entry(read: Callable[[LedgerEntry], Key]) -> Callable[[Item], tuple[Key, ...]]:
    """A key that an attempt has, and what was saved has not."""
    return lambda item: (read(item.entry),) if isinstance(item, Spent) else ()


KEYS: Mapping[By, Callable[[Item], tuple[Key, ...]]] = {
    "run": lambda item: (item.run,),
    "agent": lambda item: (item.agent,),
    "model": _of_entry(lambda entry: entry.model or entry.served),
    "step": _of_entry(lambda entry: names_in(entry.slot)),
    "tag": lambda item: item.tags or (None,),
    "day": lambda item: ((iso_time(item.at) or "").partition("T")[0] or None,),
}
"""The keys under which an item counts."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which items count.

    Attributes:
        since, until: from this millisecond on, and before that one; ``None``: no limit. What has no time counts only
            where there is no limit.
        agent, tag: of this agent, and with this tag; ``None``: of any.
    """

    since: int | None = None
    until: int | None = None
    agent: str | None = None
    tag: str | None = None

    def __contains__(self, item: Item) -> bool:
        if (self.since is not None or self.until is not None) and not item.at:
            return False
        return (
            (self.since is None or item.at >= self.since)
            and (self.until is None or item.at < self.until)
            and (self.agent is None or item.agent == self.agent)
            and (self.tag is None or self.tag in item.tags)
        )


def usd(nano: int | None) -> Decimal | None:
    """Nano-dollars as dollars, exact."""
    with localcontext(EXACT):
        return None if nano is None else Decimal(f"{nano}e-9").normalize()


def attempt_record(spent: Spent | None) -> dict[str, Any]:
    """All that is recorded of one attempt; of none, the names of the fields alone."""
    entry = LedgerEntry(id="", bill="paid", slot="") if spent is None else spent.entry
    said = entry.model_dump(exclude={"cost", "bound", "usage", "at"})
    usage = None if entry.usage is None else entry.usage.model_dump(exclude={"hosted_tools"})
    return {
        "run": None if spent is None else spent.run,
        "agent": None if spent is None else spent.agent,
        "tags": [] if spent is None else list(spent.tags),
        "attempt": None if spent is None else spent.attempt,
        "at": iso_time(entry.at),
        **said,
        "cost_usd": usd(entry.cost),
        "bound_usd": usd(entry.bound),
        **{kind: None if usage is None else usage[kind] for kind in TOKENS},
        "hosted_tools": None if entry.usage is None else entry.usage.hosted_tools,
        "is_deleted": spent is not None and spent.is_deleted,
    }

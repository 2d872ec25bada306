"""Records turned into what a list, a card or a page shows. What was stored is hostile text: it is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from agentcheckpoint.core.ledger import CostReport, fold_entries, logged_money, money, report
from agentcheckpoint.core.lifecycle import since_restart
from agentcheckpoint.core.models import (
    Done,
    Failed,
    Intent,
    LedgerEntry,
    LogEntry,
    Rejected,
    StepKind,
    Usage,
    Withdrawn,
)
from agentcheckpoint.show.layout import Column, cut, lay_out, plain

Outcome: TypeAlias = Literal["done", "overridden", "failed", "rejected", "unfinished"]

# Unions would be built for each entry anew.
_ENDED = (Done, Failed)
_TOLD = (Done, Intent, Failed, Rejected, Withdrawn)
_NOTHING = (0, None, None, True)
"""What most steps have bought."""


class StepRow(NamedTuple):
    """What one slot of a run came to.

    Attributes:
        slot: the step's slot; as stored, not escaped.
        kind: ``None`` while the step has not ended once.
        outcome: what the last entry of the log made of it.
        attempts: tries of the step, or attempts to pay for it where these are more.
        ms: how long the last try took, milliseconds.
        usage: the tokens that were bought; ``None``: none, or unmeasured.
        cost: nano-dollars spent on the step, as far as known; ``None``: nothing was bought, or no price is known.
        priced: the cost is the whole of it: no attempt is unpriced or unresolved.
        size: bytes that the recorded result takes in the store, packed; ``None``: no result.
        at: when the log last spoke of it, milliseconds since the epoch on the store's clock.
    """

    slot: str
    kind: StepKind | None
    outcome: Outcome
    attempts: int
    ms: int
    usage: Usage | None
    cost: int | None
    priced: bool
    size: int | None
    at: int


class _Story:
    """A slot while the log is being read. What is not told stays with the class: a long run has many."""

    kind: StepKind | None = None
    outcome: Outcome = "unfinished"
    tries: int = 0
    pending: bool = False
    """An intent is recorded, and not yet what came of it."""
    done: Done | None = None
    ms: int = 0
    at: int = 0

    def tell(self, entry: Done | Failed | Intent | Withdrawn | Rejected) -> None:
        if isinstance(entry, _ENDED):
            self.tries += not self.pending
            self.pending, self.at = False, entry.at
            self.kind, self.ms = entry.kind, entry.ms
            self.outcome, self.done = "failed", None
            if isinstance(entry, Done):
                self.outcome, self.done = "overridden" if entry.overridden else "done", entry
        elif isinstance(entry, Intent):
            self.tries += 1
            self.pending, self.at = True, entry.at
            self.outcome, self.done, self.ms = "unfinished", None, 0
        elif isinstance(entry, Withdrawn):
            self.tries, self.pending, self.at = max(0, self.tries - 1), False, entry.at
        elif self.done is not None and entry.target == self.done.id:
            # A refusal of an answer that has been replaced since says nothing of the one that stands.
            self.outcome, self.done, self.at = "rejected", None, entry.at


def step_rows(entries: Sequence[LogEntry]) -> list[StepRow]:
    """Fold a run's log into one row per slot, in the order in which the slots first appear.

    Of what was recorded before the run was begun afresh, only the money is told.
    """
    stories: dict[str, _Story] = {}
    for entry in since_restart(entries):
        if isinstance(entry, _TOLD):
            story = stories.get(entry.slot)
            if story is None:
                story = stories[entry.slot] = _Story()
            story.tell(entry)
    bought: dict[str, list[LedgerEntry]] = {}
    for attempt in fold_entries(logged_money(entries)).values():
        # An attempt may be known by its money alone.
        if attempt.slot not in stories:
            stories[attempt.slot] = _Story()
            stories[attempt.slot].at = attempt.at
        bought.setdefault(attempt.slot, []).append(attempt)
    return [_row(slot, story, bought.get(slot, ())) for slot, story in stories.items()]


def _row(slot: str, story: _Story, attempts: Sequence[LedgerEntry]) -> StepRow:
    bought, usage, cost, priced = _bought(attempts) if attempts else _NOTHING
    tries = max(story.tries, bought) if bought else story.tries
    size = None if story.done is None else story.done.payload.size
    # By place: names take as long again, and a long run has many rows.
    return StepRow(slot, story.kind, story.outcome, tries, story.ms, usage, cost, priced, size, story.at)


def _bought(attempts: Sequence[LedgerEntry]) -> tuple[int, Usage | None, int | None, bool]:
    """How many attempts to pay there were; and the usage, cost and whether it is the whole cost, as a row has them."""
    sums = report(attempts)
    bought = [attempt for attempt in attempts if attempt.bill in ("paid", "wasted")]
    return (
        sums.attempts,
        sums.usage if any(attempt.usage is not None for attempt in bought) else None,
        sums.spent if len(bought) > sums.unpriced else None,
        not sums.unpriced and not sums.unresolved,
    )


def table(rows: Sequence[StepRow], width: int) -> str:
    """Lay the rows out as plain text.

    Args:
        rows: what ``step_rows`` returned.
        width: the most columns that a line may take, at least 1. Where that is too little, the names of the steps
            are cut first, then whole columns go, the least important first.

    Returns:
        Lines without a trailing newline, with every control character in the data escaped.
    """
    return lay_out(_columns(rows), width) if rows else cut("no steps recorded", width)


TITLES = ("step", "kind", "outcome", "tries", "time", "tokens", "cost", "size")
_KEEP = (8, 4, 7, 5, 3, 2, 6, 1)
"""Of the columns of a table: the lowest goes first where there is no room."""


def cells_of(row: StepRow) -> tuple[str, ...]:
    """What a table says of a step, under ``TITLES``; the slot as stored, not escaped."""
    return (
        row.slot,
        row.kind or "",
        row.outcome,
        str(row.attempts),
        duration_text(row.ms),
        tokens_text(row.usage),
        _cost(row),
        _size(row.size),
    )


def _columns(rows: Sequence[StepRow]) -> list[Column]:
    lines = [cells_of(row) for row in rows]
    return [
        Column([title, *(plain(line[n]) for line in lines)], _KEEP[n], right=n > 2) for n, title in enumerate(TITLES)
    ]


def _cost(row: StepRow) -> str:
    if row.priced:
        return "" if row.cost is None else money(row.cost)
    return money(None) if row.cost is None else f"≥ {money(row.cost)}"


def spent_text(cost: CostReport) -> str:
    """What was spent, in a few characters: nothing where nothing was bought, and no sum where it is not known."""
    if not cost.attempts:
        return ""
    known = money(cost.spent if cost.spent or not (cost.unpriced or cost.unresolved) else None)
    return f"≥ {known}" if cost.spent and (cost.unpriced or cost.unresolved) else known


def duration_text(ms: int) -> str:
    """Milliseconds, for people; nothing for 0."""
    if ms < 1000:
        return f"{ms}ms" if ms else ""
    tenths = (ms + 50) // 100
    if tenths < 600:
        return f"{tenths // 10}.{tenths % 10}s"
    seconds = (ms + 500) // 1000
    return f"{seconds // 60}m {seconds % 60:02d}s"


def tokens_text(usage: Usage | None) -> str:
    """Tokens in and out, for people."""
    if usage is None:
        return ""
    cached = f" ({count_text(usage.cached_tokens)} cached)" if usage.cached_tokens else ""
    return f"{count_text(usage.input_tokens)}→{count_text(usage.output_tokens)}{cached}"


def count_text(tokens: int) -> str:
    """A number of tokens in three or four characters."""
    for unit, letter in ((10**6, "M"), (10**3, "k")):
        if tokens >= unit:
            tenths = (tokens * 10 + unit // 2) // unit
            return f"{tenths // 10}.{tenths % 10}{letter}"
    return str(tokens)


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size} B" if size < 1024 else f"{(size + 512) // 1024:,} KB"

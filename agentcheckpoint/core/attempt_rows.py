"""A run's attempts, one row each: who made it, how it ended, what it gained and what it cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentcheckpoint.core.ledger import CostReport, report
from agentcheckpoint.core.models import Closed, Done, Failure, LedgerEntry, LogEntry, Opened, RunState

Outcome: TypeAlias = RunState | Literal["died"]
"""The state that an attempt left the run in; ``running``: it has not ended, as far as is stored; ``died``: nor will it,
since another one was made."""


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt of a run.

    Attributes:
        number: the first is 1.
        worker: who made it, for people.
        agent: which agent it was called as; ``None``: it was opened by ``ac.run``.
        tags: what its money is counted under.
        began: when, milliseconds since the epoch.
        ended: when; ``None``: it has not, or nobody stored it.
        outcome: how.
        error: what it was left by, if that was a failure: type, message and traceback as text.
        due: when the run was to go on by itself then, milliseconds since the epoch.
        steps: how many steps it recorded.
        cost: what it bought, and what it saved by replaying. An answer that was settled later counts where it was asked
            for.
    """

    number: int
    worker: str
    agent: str | None
    tags: tuple[str, ...]
    began: int
    ended: int | None
    outcome: Outcome
    error: Failure | None
    due: int | None
    steps: int
    cost: CostReport


@dataclass(slots=True)
class _Story:
    opened: Opened
    closed: Closed | None = None
    steps: int = 0


def attempt_rows(entries: Iterable[LogEntry], money: Mapping[str, LedgerEntry]) -> list[AttemptRow]:
    """Fold a run's log into one row per attempt.

    Args:
        entries: the whole log.
        money: the run's ledger, each attempt to buy an answer once, by its id.
    """
    stories: list[_Story] = []
    bought: dict[str, int] = {}
    """In which attempt of the run each answer was asked for."""
    for entry in entries:
        if isinstance(entry, Opened):
            stories.append(_Story(entry))
        elif stories and stories[-1].closed is None:
            story = stories[-1]
            story.steps += isinstance(entry, Done)
            if isinstance(entry, Closed):
                story.closed = entry
        for paid in getattr(entry, "entries", ()):
            bought.setdefault(paid.id, len(stories) - 1)
    paid_in: dict[int, list[LedgerEntry]] = {}
    for entry_id, paid in money.items():
        paid_in.setdefault(bought.get(entry_id, -1), []).append(paid)
    return [_row(story, n == len(stories) - 1, paid_in.get(n, [])) for n, story in enumerate(stories)]


def _row(story: _Story, is_last: bool, bought: list[LedgerEntry]) -> AttemptRow:
    opened, closed = story.opened, story.closed
    return AttemptRow(
        number=opened.attempt,
        worker=opened.worker,
        agent=opened.agent,
        tags=opened.tags or (),
        began=opened.at,
        ended=None if closed is None else closed.at,
        outcome=closed.state if closed is not None else "running" if is_last else "died",
        error=None if closed is None else closed.error,
        due=None if closed is None else closed.due,
        steps=story.steps,
        cost=report(bought)
        if closed is None
        else report(bought, saved=closed.saved, replayed=closed.replayed, saved_unpriced=closed.saved_unpriced),
    )

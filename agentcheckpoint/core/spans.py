"""When each step of a run was at work, on a clock that stands still while nobody works on the run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentcheckpoint.core.lifecycle import since_restart
from agentcheckpoint.core.models import Done, Failed, Intent, LogEntry, Opened, Withdrawn

How: TypeAlias = Literal["done", "failed", "unfinished"]


@dataclass(frozen=True, slots=True)
class Span:
    """One try of a step.

    Attributes:
        slot: which step; as stored, not escaped.
        how: how it ended; ``unfinished``: nobody stored that.
        began, ended: milliseconds of work on the run before it.
    """

    slot: str
    how: How
    began: int
    ended: int


@dataclass(slots=True)
class _Attempt:
    """An attempt of the run while the log is being read."""

    offset: int
    began: int
    ended: int

    def at(self, ms: int) -> int:
        """A moment of the store's clock on that of the work; none lies outside of the attempt."""
        return self.offset + min(max(ms, self.began), max(self.ended, self.began)) - self.began


def spans(entries: Sequence[LogEntry]) -> list[Span]:
    """The tries of all steps, in the order in which they ended; those that did not end come when their attempt does.

    What was taken over from another run was no work of this one. Times are those at which the log was written.
    """
    found: list[Span] = []
    attempt: _Attempt | None = None
    open_intents: dict[str, int] = {}
    for entry in since_restart(entries):
        if isinstance(entry, Opened):
            found += _unfinished(attempt, open_intents)
            open_intents = {}
            offset = 0 if attempt is None else attempt.at(attempt.ended)
            attempt = _Attempt(offset, entry.at, entry.at)
        if attempt is None:
            continue
        attempt.ended = max(attempt.ended, entry.at)
        if isinstance(entry, Intent):
            open_intents.setdefault(entry.slot, entry.at)
        elif isinstance(entry, Withdrawn):
            open_intents.pop(entry.slot, None)
        elif isinstance(entry, Done | Failed):
            open_intents.pop(entry.slot, None)
            how: How = "done" if isinstance(entry, Done) else "failed"
            found.append(Span(entry.slot, how, attempt.at(entry.at - entry.ms), attempt.at(entry.at)))
    return found + _unfinished(attempt, open_intents)


def _unfinished(attempt: _Attempt | None, intents: dict[str, int]) -> list[Span]:
    if attempt is None:
        return []
    end = attempt.at(attempt.ended)
    return [Span(slot, "unfinished", attempt.at(began), end) for slot, began in intents.items()]

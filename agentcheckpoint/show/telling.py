"""What an entry of a run's log says, for people: a line for each. What was stored is escaped."""

from __future__ import annotations

from agentcheckpoint.core.ledger import money, report
from agentcheckpoint.core.models import (
    Birth,
    Closed,
    Done,
    Failed,
    Failure,
    Intent,
    LogEntry,
    Opened,
    Rejected,
    Restarted,
    Rewound,
    Waiting,
)
from agentcheckpoint.show.layout import plain
from agentcheckpoint.show.text import duration_text

QUIET = ("settled", "located", "withdrawn")
"""Entries that are about money or addresses alone: they are no line."""


def entry_text(entry: LogEntry) -> str | None:
    """The line, without a time; ``None``: there is nothing to say."""
    said = _said(entry)
    return None if said is None else plain(said)


def _said(entry: LogEntry) -> str | None:
    match entry:
        case Birth():
            return f"begun{'' if entry.agent is None else f', agent {entry.agent}'}"
        case Opened():
            return f"attempt {entry.attempt} opened by {entry.worker}"
        case Intent():
            return f"{entry.slot} is being called"
        case Done():
            return f"{entry.slot} {'given' if entry.overridden else 'done'}{_measures(entry)}"
        case Failed():
            return f"{entry.slot} failed{_measures(entry)}: {_error(entry.error)}"
        case Rejected():
            return f"{entry.slot} rejected: {entry.why}"
        case Waiting():
            return f"{entry.slot} waits{' for an answer' if entry.answer else ''}"
        case Closed():
            return f"{entry.state}{'' if entry.error is None else f': {_error(entry.error)}'}"
        case Rewound():
            return f"went back to {entry.slot}"
        case Restarted():
            return "begun afresh"
        case _:
            return None if entry.k in QUIET else entry.k


def _measures(entry: Done | Failed) -> str:
    """How long it took, and what it cost."""
    sums = report(entry.entries)
    parts = [duration_text(entry.ms)]
    if entry.entries:
        parts.append(money(None if sums.unpriced or sums.unresolved else sums.spent))
    shown = ", ".join(part for part in parts if part)
    return f" ({shown})" if shown else ""


def _error(error: Failure) -> str:
    return f"{error.type}: {error.message}"

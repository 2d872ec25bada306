"""The tries of a step that failed, and what each attempt of the run has gained, as the log tells them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agentcheckpoint.core import ids
from agentcheckpoint.core.lifecycle import ENDED
from agentcheckpoint.core.models import Closed, Done, Failed, LogEntry, Opened, Rejected, Revived, Rewound

# Unions would be built for each entry anew.
_AFRESH = (Revived, Rewound)
_QUIET = (Closed, Revived)


@dataclass(frozen=True, slots=True)
class Series:
    """The tries of one step that failed since it last had a result; or the attempts of a run.

    Times are milliseconds on the store's clock.

    Attributes:
        failed: how many.
        began: when the first of them began.
        last: when the last of them ended.
        next_at: when the next one is due; ``None``: no policy has said.
        idle: milliseconds waited between them, and before the next one.
        gained: how many steps inside of it each of them recorded.
    """

    failed: int = 0
    began: int = 0
    last: int = 0
    next_at: int | None = None
    idle: int = 0
    gained: tuple[int, ...] = ()

    def rest(self, now: int) -> int:
        """Milliseconds until the next try: never more than was decided, should the clock have gone back."""
        return 0 if self.next_at is None else max(0, min(self.next_at - now, self.next_at - self.last))


def run_series(entries: Iterable[LogEntry]) -> Series:
    """The attempts of the run that failed since it last came to an end, or was let go on by somebody.

    One that was interrupted, waits, or whose worker died is none of them.
    """
    series, began = Series(), 0
    for entry in entries:
        if isinstance(entry, Opened):
            began = entry.at
        elif isinstance(entry, _AFRESH) or (isinstance(entry, Closed) and entry.state in ENDED):
            series = Series()
        elif isinstance(entry, Closed) and entry.state == "retryable":
            series = replace(
                series,
                failed=series.failed + 1,
                began=series.began if series.failed else began,
                last=entry.at,
                next_at=entry.due,
                idle=series.idle + (max(0, entry.due - entry.at) if entry.due is not None else 0),
            )
    return series


def deaths(entries: Iterable[LogEntry]) -> int:
    """How many attempts before this one, one after the other, ended without a word and without a recorded step.

    Args:
        entries: the log, up to and with the opening of the attempt that asks.
    """
    died, is_open, gained = 0, False, False
    for entry in entries:
        if isinstance(entry, Opened):
            if is_open:
                died = 0 if gained else died + 1
            is_open, gained = True, False
        elif isinstance(entry, _QUIET):
            died, is_open = 0, False
        elif isinstance(entry, Done):
            gained = True
    return died


class Tries:
    """What the log says of tries and attempts that did not succeed. It is told the log's entries in their order."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self._inside: dict[str, int] = {}
        """How many steps were recorded inside of a step since its last try failed."""
        self._gained: dict[int, int] = {}
        """How many steps each attempt of the run has recorded, since the run was last completed."""
        self._attempt = 0

    def tell(self, entry: LogEntry) -> None:
        """What the log says next."""
        if isinstance(entry, Done):
            self._forget(entry.slot)
            self._gained[self._attempt] = self._gained.get(self._attempt, 0) + 1
            for slot in ids.enclosing(entry.slot):
                self._inside[slot] = self._inside.get(slot, 0) + 1
        elif isinstance(entry, Failed):
            self._failed(entry)
        elif isinstance(entry, Rejected):
            self._forget(entry.slot)
        elif isinstance(entry, Opened):
            self._attempt = entry.attempt
            self._gained.setdefault(entry.attempt, 0)
        elif isinstance(entry, Closed):
            self._closed(entry)

    def series(self, slot: str) -> Series:
        """The tries of this step that failed since it last had a result."""
        return self._series.get(slot, Series())

    def gained_inside(self, slot: str) -> int:
        """How many steps were recorded inside of this one since its last try failed: by the try that is under way."""
        return self._inside.get(slot, 0)

    def gained(self) -> tuple[int, ...]:
        """How many steps each attempt of the run has recorded, the current one last."""
        return tuple(self._gained.values())

    def _failed(self, entry: Failed) -> None:
        known = self.series(entry.slot)
        self._series[entry.slot] = replace(
            known,
            failed=known.failed + 1,
            began=known.began if known.failed else max(0, entry.at - entry.ms),
            last=entry.at,
            next_at=entry.next_at,
            idle=known.idle + (max(0, entry.next_at - entry.at) if entry.next_at is not None else 0),
            gained=(*known.gained, self._inside.pop(entry.slot, 0)),
        )

    def _forget(self, slot: str) -> None:
        self._series.pop(slot, None)
        self._inside.pop(slot, None)

    def _closed(self, entry: Closed) -> None:
        if entry.state == "completed":
            self._gained.clear()
        elif entry.state in ("interrupted", "waiting") and not self._gained.get(self._attempt):
            self._gained.pop(self._attempt, None)  # it did not fail: it was not let go on

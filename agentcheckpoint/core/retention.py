"""How long finished runs are kept, and how much room a run takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from agentcheckpoint.core.models import Closed, LogEntry
from agentcheckpoint.errors import RunMisuse

THIRTY_DAYS = timedelta(days=30)
_UNITS = ("kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class RunSize:
    """The bytes of what is stored of a run, without what the server adds to them.

    Attributes:
        log: what happened, in order, with the ledger entries that stand in it.
        results: the results of its steps, its arguments and its output.
        ledger: the ledger entries that are booked beside the log.
    """

    log: int = 0
    results: int = 0
    ledger: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.log + self.results + self.ledger

    def __str__(self) -> str:
        return size_text(self.total)


def size_of(log: Iterable[bytes], results: Iterable[int], beside: Iterable[bytes]) -> RunSize:
    """The size of a run.

    Args:
        log: its entries, as they are stored.
        results: the sizes of what is kept apart of them.
        beside: the words that are stored of entries beside the log.
    """
    return RunSize(sum(map(len, log)), sum(results), sum(map(len, beside)))


def size_text(size: int) -> str:
    """Bytes for people, in powers of 1000: ``417 B``, ``2.1 kB``."""
    if size < 1000:
        return f"{size} B"
    amount, units = size / 1000, list(_UNITS)
    while amount >= 999.95 and len(units) > 1:
        amount /= 1000
        del units[0]
    return f"{amount:,.1f} {units[0]}"


@dataclass(frozen=True, slots=True)
class Policy:
    """After how many milliseconds a finished run may go, by its state; what is not named here stays for ever."""

    ages: Mapping[str, int]

    @staticmethod
    def of(ages: Mapping[str, timedelta | None]) -> Policy:
        """Raises ``RunMisuse`` if an age is no span of time."""
        for state, age in cast("Mapping[str, object]", ages).items():
            if age is not None and not (isinstance(age, timedelta) and age >= timedelta(0)):
                raise RunMisuse(f"{state}={age!r}: it is a datetime.timedelta that is not negative, or None.")
        return Policy({state: age // timedelta(milliseconds=1) for state, age in ages.items() if age is not None})

    def is_due(self, state: str, last_ms: int, now_ms: int) -> bool:
        """Whether a run in this state may go, to which nothing has happened since ``last_ms``."""
        age = self.ages.get(state)
        return age is not None and now_ms - last_ms >= age

    @property
    def shortest(self) -> int | None:
        """The age below which no run is due; ``None``: none ever is."""
        return min(self.ages.values(), default=None)


def last_moment(entries: Sequence[LogEntry]) -> int:
    """When something last happened to a run, milliseconds since the epoch.

    That is the end of its last attempt. Where an attempt was begun after it and has no end, since its worker died
    while it replayed, the beginning counts: the run was of use then.
    """
    last_end = max((entry.at for entry in entries if isinstance(entry, Closed)), default=0)
    return max(last_end, entries[-1].at)

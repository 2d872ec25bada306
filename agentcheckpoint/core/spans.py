"""When each step of a run was at work: a lane for each, long idle times cut out. Text and pictures draw this. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentcheckpoint.core.lifecycle import since_restart
from agentcheckpoint.core.models import Done, Failed, Intent, LogEntry, Opened, Withdrawn

How: TypeAlias = Literal["done", "failed", "unfinished"]
LONGEST_IDLE_MS = 100
"""Idle time that is drawn as it was, or a quarter of all working time if that is more. Longer is drawn as that."""


@dataclass(frozen=True, slots=True)
class Span:
    """One try of a step.

    Attributes:
        lane: the number of its step's lane, from 0.
        how: how it ended; ``unfinished``: nobody stored that.
        paid: it was paid for, or may have been.
        began, ended: milliseconds of drawn time. What lies between them took as long as that.
    """

    lane: int
    how: How
    paid: bool
    began: int
    ended: int

    @property
    def ms(self) -> int:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Break:
    """Where idle time is left out.

    Attributes:
        at: milliseconds of drawn time.
        ms: how long nothing happened.
    """

    at: int
    ms: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run's steps in time.

    Attributes:
        lanes: the slot of each lane, in the order in which they first began; as stored, not escaped.
        spans: the tries, in the order in which they ended; those that did not end come when their attempt does.
        breaks: where idle time is left out, in order.
        length: milliseconds of drawn time.
        elapsed: milliseconds from the first beginning to the last end, with all that is left out.
    """

    lanes: tuple[str, ...]
    spans: tuple[Span, ...]
    breaks: tuple[Break, ...]
    length: int
    elapsed: int

    def took(self) -> list[int]:
        """How long all tries of each lane took, milliseconds."""
        sums = [0] * len(self.lanes)
        for span in self.spans:
            sums[span.lane] += span.ms
        return sums


def timeline(entries: Iterable[LogEntry], slots: Collection[str] | None = None) -> Timeline:
    """Lays out the tries of a run's log. Times are those at which the log was written, on the store's clock.

    What was recorded before the run was begun afresh, or before it went back, is left out, and so is what was taken
    over from another run, or given: that was no work of this one.

    Args:
        entries: the whole log.
        slots: the steps that get a lane; ``None``: all.
    """
    tries = [found for found in _tries(since_restart(entries)) if slots is None or found.slot in slots]
    drawn, breaks = _without_idling([(found.began, found.ended) for found in tries])
    lanes = tuple(dict.fromkeys(found.slot for found in sorted(tries, key=lambda found: found.began)))
    lane_of = {slot: n for n, slot in enumerate(lanes)}
    spans = [Span(lane_of[t.slot], t.how, t.paid, drawn[t.began], drawn[t.ended]) for t in tries]
    elapsed = max(drawn, default=0) - min(drawn, default=0)
    return Timeline(lanes, tuple(spans), tuple(breaks), max(drawn.values(), default=0), elapsed)


@dataclass(frozen=True, slots=True)
class _Try:
    slot: str
    how: How
    paid: bool
    began: int
    ended: int


@dataclass(slots=True)
class _Attempt:
    """An attempt of the run while the log is being read."""

    began: int
    ended: int

    def at(self, ms: int) -> int:
        """No moment of its steps lies outside of it, whatever the clocks said."""
        return min(max(ms, self.began), self.ended)


def _tries(entries: Sequence[LogEntry]) -> Iterator[_Try]:
    """The tries on the store's clock, each within its attempt."""
    attempt: _Attempt | None = None
    intents: dict[str, Intent] = {}
    for entry in entries:
        if isinstance(entry, Opened):
            yield from _unfinished(attempt, intents)
            attempt, intents = _Attempt(entry.at, entry.at), {}
        if attempt is None:
            continue
        attempt.ended = max(attempt.ended, entry.at)
        if isinstance(entry, Intent):
            intents.setdefault(entry.slot, entry)
        elif isinstance(entry, Withdrawn):
            intents.pop(entry.slot, None)
        elif isinstance(entry, Done | Failed):
            intents.pop(entry.slot, None)
            if isinstance(entry, Failed) or not (entry.elsewhere is not None or entry.overridden):
                how: How = "done" if isinstance(entry, Done) else "failed"
                yield _Try(entry.slot, how, _is_paid(entry), attempt.at(entry.at - entry.ms), attempt.at(entry.at))
    yield from _unfinished(attempt, intents)


def _unfinished(attempt: _Attempt | None, intents: Mapping[str, Intent]) -> Iterator[_Try]:
    if attempt is None:
        return
    for slot, intent in intents.items():
        yield _Try(slot, "unfinished", _is_paid(intent), attempt.at(intent.at), attempt.ended)


def _is_paid(entry: Intent | Done | Failed) -> bool:
    return any(bought.bill != "not_billed" for bought in entry.entries)


def _without_idling(spans: Iterable[tuple[int, int]]) -> tuple[Mapping[int, int], list[Break]]:
    """Drawn time by real time, for the ends of all spans; and what was left out."""
    busy: list[list[int]] = []
    ends: set[int] = set()
    for start, end in sorted(spans):
        ends |= {start, end}
        if busy and start <= busy[-1][1]:
            busy[-1][1] = max(busy[-1][1], end)
        else:
            busy.append([start, end])
    most = max(LONGEST_IDLE_MS, sum(end - start for start, end in busy) // 4)
    drawn, breaks = dict[int, int](), list[Break]()
    left_out, before = min(ends, default=0), None
    waiting = deque(sorted(ends))
    for start, end in busy:
        if before is not None and start - before > most:
            breaks.append(Break(before - left_out + most // 2, start - before))
            left_out += start - before - most
        before = end
        while waiting and waiting[0] <= end:
            moment = waiting.popleft()
            drawn[moment] = moment - left_out
    return drawn, breaks

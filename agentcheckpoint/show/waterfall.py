"""Where each try of each step lies in time: a lane for each step, long idle times cut out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentcheckpoint.core.lifecycle import since_restart
from agentcheckpoint.core.models import Done, Failed, LogEntry

Ended: TypeAlias = Literal["done", "failed"]
LONGEST_IDLE_MS = 100
"""Idle time that is drawn as it was, or a quarter of all working time if that is more. Longer is drawn as that."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One try of a step.

    Attributes:
        lane: the number of its step's lane, from 0.
        start, end: milliseconds of drawn time.
        outcome: how it ended.
        paid: it was paid for, or may have been.
        ms: how long it took.
    """

    lane: int
    start: int
    end: int
    outcome: Ended
    paid: bool
    ms: int


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
class Waterfall:
    """A run's steps in time.

    Attributes:
        lanes: the slot of each lane; as stored, not escaped.
        bars: the tries, in the order of the log.
        breaks: where idle time is left out, in order.
        length: milliseconds of drawn time.
    """

    lanes: tuple[str, ...]
    bars: tuple[Bar, ...]
    breaks: tuple[Break, ...]
    length: int


def waterfall(entries: Iterable[LogEntry], slots: Sequence[str] | None = None) -> Waterfall:
    """Lays out the tries of a run's log.

    Args:
        entries: the whole log. Of what was recorded before the run was begun afresh, or before it went back, nothing
            is drawn.
        slots: the steps that get a lane, in this order; ``None``: all, in the order in which they first ended.
    """
    tries = [entry for entry in since_restart(entries) if isinstance(entry, Done | Failed) and not _given(entry)]
    lanes = tuple(dict.fromkeys(entry.slot for entry in tries)) if slots is None else tuple(slots)
    lane_of = {slot: n for n, slot in enumerate(lanes)}
    shown = [entry for entry in tries if entry.slot in lane_of]
    drawn, breaks = _without_idling([(entry.at - entry.ms, entry.at) for entry in shown])
    bars = tuple(
        Bar(lane_of[entry.slot], drawn[entry.at - entry.ms], drawn[entry.at], _ended(entry), _is_paid(entry), entry.ms)
        for entry in shown
    )
    return Waterfall(lanes, bars, tuple(breaks), max((bar.end for bar in bars), default=0))


def _ended(entry: Done | Failed) -> Ended:
    return "done" if isinstance(entry, Done) else "failed"


def _given(entry: Done | Failed) -> bool:
    """It was taken over from another run, or given: nothing was done here, and its time is another's."""
    return isinstance(entry, Done) and (entry.elsewhere is not None or bool(entry.overridden))


def _is_paid(entry: Done | Failed) -> bool:
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

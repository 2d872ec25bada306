"""A run's steps as bars over time, in text. What was stored is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias

from agentcheckpoint.core.spans import How, Timeline
from agentcheckpoint.show.layout import columns_of, cut, plain
from agentcheckpoint.show.text import duration_text

Line: TypeAlias = Sequence[tuple[str, str]]
"""Texts, each with its style: a colour, or nothing."""

MARKS: dict[How, tuple[str, str]] = {"done": ("█", "green"), "failed": ("▒", "red"), "unfinished": ("░", "yellow")}
"""Of what a bar is made, which tells the outcomes apart without colours, and its colour."""
BREAK = ("┊", "dim")
"""Where idle time is left out."""
_GAP = "  "
_TIME = 7
"""Columns of a duration."""


def waterfall(layout: Timeline, width: int) -> list[Line]:
    """A line for each step with its tries as bars, and one that says how much idle time is left out.

    Args:
        layout: what ``core.spans`` found.
        width: the most columns that a line may take, at least 40.
    """
    if not layout.spans:
        return []
    names = min(max(len("step"), *(columns_of(plain(slot)) for slot in layout.lanes)), width // 3)
    room = width - names - 2 * len(_GAP) - _TIME
    end = duration_text(layout.elapsed)
    head = "step".ljust(names) + _GAP + "0s" + end.rjust(room - 2)
    lines: list[Line] = [[(head, "dim")]]
    for slot, cells, took in zip(layout.lanes, _cells(layout, room), layout.took(), strict=True):
        name = cut(plain(slot), names)
        bars = [("".join(mark for mark, _ in run), style) for style, run in groupby(cells, lambda cell: cell[1])]
        lines.append(
            [
                (name + " " * (names - columns_of(name)) + _GAP, ""),
                *bars,
                (_GAP + (duration_text(took) or "0ms").rjust(_TIME), "dim"),
            ]
        )
    if layout.breaks:
        idle = duration_text(sum(gap.ms for gap in layout.breaks))
        lines.append([(f"{BREAK[0]} {idle} in which nothing happened", "dim")])
    return lines


def _cells(layout: Timeline, room: int) -> list[list[tuple[str, str]]]:
    """For each lane so many columns, each with its style."""
    whole = max(1, layout.length)
    empty = [(" ", "")] * room
    for gap in layout.breaks:
        empty[min(gap.at * room // whole, room - 1)] = BREAK
    lanes = [empty.copy() for _ in layout.lanes]
    for span in layout.spans:
        first = min(span.began * room // whole, room - 1)
        last = max(first + 1, -(-span.ended * room // whole))
        for n in range(first, min(last, room)):
            lanes[span.lane][n] = MARKS[span.how]
    return lanes

"""A run's steps as bars over time, in text. What was stored is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from agentcheckpoint.core.spans import How, Span
from agentcheckpoint.show.layout import columns_of, cut, plain
from agentcheckpoint.show.text import duration_text

Line: TypeAlias = Sequence[tuple[str, str]]
"""Texts, each with its style: a colour, or nothing."""

MARKS: dict[How, tuple[str, str]] = {"done": ("█", "green"), "failed": ("▒", "red"), "unfinished": ("░", "yellow")}
"""Of what a bar is made, which tells the outcomes apart without colours, and its colour."""
_GAP = "  "
_TIME = 7
"""Columns of a duration."""


def waterfall(spans: Sequence[Span], width: int) -> list[Line]:
    """A line for each step, in the order in which they ended first, with its tries as bars.

    Args:
        spans: what ``core.spans`` found.
        width: the most columns that a line may take, at least 40.
    """
    if not spans:
        return []
    rows: dict[str, list[Span]] = {}
    for span in spans:
        rows.setdefault(span.slot, []).append(span)
    whole = max(1, max(span.ended for span in spans))
    names = min(max(len("step"), *(columns_of(plain(slot)) for slot in rows)), width // 3)
    room = width - names - 2 * len(_GAP) - _TIME
    end = duration_text(whole)
    head = "step".ljust(names) + _GAP + "0s" + end.rjust(room - 2)
    return [[(head, "dim")], *(_row(slot, tries, names, room, whole) for slot, tries in rows.items())]


def _row(slot: str, tries: Sequence[Span], names: int, room: int, whole: int) -> Line:
    name = cut(plain(slot), names)
    cells: list[How | None] = [None] * room
    for span in tries:
        first = min(span.began * room // whole, room - 1)
        last = max(first + 1, -(-span.ended * room // whole))
        for n in range(first, min(last, room)):
            cells[n] = span.how
    parts: list[tuple[str, str]] = [(name + " " * (names - columns_of(name)) + _GAP, "")]
    for how in cells:
        mark, colour = (" ", "") if how is None else MARKS[how]
        if parts[-1][1] == colour and len(parts) > 1:
            parts[-1] = (parts[-1][0] + mark, colour)
        else:
            parts.append((mark, colour))
    took = sum(span.ended - span.began for span in tries)
    return [*parts, (_GAP + (duration_text(took) or "0ms").rjust(_TIME), "dim")]

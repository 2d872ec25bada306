"""Columns of text laid out for a terminal: cut to its width, and with nothing in it that a terminal would obey."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

_GAP = "  "
_NARROWEST = 12


def plain(text: str) -> str:
    """Escape what a terminal would not print as itself: controls, escape sequences, bidirectional overrides."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


@dataclass
class Column:
    """One column of a table."""

    cells: list[str]
    """The title first."""
    keep: int
    """The column with the lowest goes first."""
    right: bool = False
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.width = max(map(columns_of, self.cells))


def lay_out(columns: Sequence[Column], width: int) -> str:
    """The lines of a table, at most so many columns wide, without a trailing newline.

    Where that is too little, the first column is cut, and then whole columns go, those with the lowest ``keep`` first.
    """
    fitting = _fit(list(columns), width)
    return "\n".join(_line(fitting, index) for index in range(len(columns[0].cells)))


def _fit(columns: list[Column], width: int) -> list[Column]:
    shown = list(columns)
    first = columns[0]
    while True:
        room = width - sum(len(_GAP) + column.width for column in shown[1:])
        if room >= min(first.width, _NARROWEST) or len(shown) == 1:
            first.width = max(1, min(first.width, room))
            return shown
        shown.remove(min(shown[1:], key=lambda column: column.keep))


def _line(columns: list[Column], index: int) -> str:
    cells: list[str] = []
    for column in columns:
        text = cut(column.cells[index], column.width)
        padding = " " * (column.width - columns_of(text))
        cells.append(padding + text if column.right else text + padding)
    return _GAP.join(cells).rstrip()


def cut(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis, in so many columns."""
    if columns_of(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += columns_of(char)
        if used > width - 1:
            break
        kept += char
    return kept + "…"


def columns_of(text: str) -> int:
    """How many columns a terminal uses for it: Chinese takes two, a combining accent none."""
    return sum(
        0 if unicodedata.category(char) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )

"""HTML and SVG as text: every element is made here, and everything in it that is not ours is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

VOID = frozenset({"rect", "line"})
"""Elements that have nothing in them."""


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is markup already."""

    text: str

    def __str__(self) -> str:
        return self.text


def escape(text: str) -> str:
    """The text as a browser shows it, whatever it is: markup, controls and bidirectional overrides are spelt out."""
    seen = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return html.escape(seen, quote=True)


def element(name: str, *inside: Markup | str, **attributes: str | int) -> Markup:
    """An element. A text inside is escaped, and so is each attribute; ``_`` in an attribute's name is a hyphen."""
    said = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{said}/>")
    return Markup(f"<{name}{said}>{''.join(map(_text, inside))}</{name}>")


def grid(titles: Iterable[str], rows: Iterable[Iterable[str]], foot: Iterable[str] = (), *, words: int = 1) -> Markup:
    """A table: its titles, its rows, and a last row. The first column is a name, and so are as many as ``words``; the
    others are numbers.
    """
    head = element("tr", *_cells("th", titles, words))
    body = [element("tr", *_cells("td", row, words)) for row in rows]
    last = [element("tfoot", element("tr", *_cells("th", foot, words)))] if foot else []
    return element("table", element("thead", head), element("tbody", *body), *last)


def _cells(name: str, row: Iterable[str], words: int) -> Iterable[Markup]:
    return (element(name, text, style=_aligned(n, words)) for n, text in enumerate(row))


def _aligned(column: int, words: int) -> str:
    if not column:
        return "text-align:left;overflow-wrap:anywhere"
    return f"text-align:{'left' if column < words else 'right'};white-space:nowrap"


def _text(inside: Markup | str) -> str:
    return inside.text if isinstance(inside, Markup) else escape(inside)

"""What all our pictures share: their frame and their legend, in SVG."""

from __future__ import annotations

from collections.abc import Iterable

from agentcheckpoint.core.markup import Markup, element

WIDTH = 640
"""Pixels."""
HEAD = 24
"""Pixels that the legend takes."""
SQUARE, NEXT = 10, 92
"""Pixels: of a square of the legend, and from one to the next."""


def framed(title: str, parts: Iterable[Markup], height: int) -> Markup:
    """A picture by itself; its words have the colour of the text around it."""
    return element(
        "svg",
        element("title", title),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH,
        height=height,
        role="img",
        font_family="sans-serif",
        font_size=12,
        fill="currentColor",
    )


def legend(left: int, colours: Iterable[tuple[str, dict[str, str]]]) -> list[Markup]:
    """A square for each colour and what it stands for, from ``left`` on.

    Args:
        left: pixels.
        colours: each one's name, and the attribute that gives it: ``fill`` or ``class_``.
    """
    parts: list[Markup] = []
    for n, (name, colour) in enumerate(colours):
        x = left + NEXT * n
        parts.append(element("rect", x=x, y=6, width=SQUARE, height=SQUARE, **colour))
        parts.append(element("text", name, x=x + SQUARE + 5, y=15))
    return parts

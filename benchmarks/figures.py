"""Curves with their spread, in SVG: both axes begin where the least value is, or at zero."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agentcheckpoint.core.markup import Markup, element
from agentcheckpoint.show.frame import HEAD, WIDTH, framed, legend

HEIGHT = 300
LEFT, RIGHT, BOTTOM = 64, 24, 48
"""Pixels beside and below the curves."""
COLOURS = ("#2f6fb7", "#c4462d", "#777777")
SCALES = ("", "k", "M")
Place = Callable[[float], int]
"""The pixel of a value."""


@dataclass(frozen=True)
class Figure:
    """One picture.

    Attributes:
        title, across, up: what it shows, and what its axes are.
        curves: by name: of each x what was measured of it, once or several times.
        decades: the y axis is logarithmic, as the x axis always is; else it begins at zero.
    """

    title: str
    across: str
    up: str
    curves: Mapping[str, Mapping[int, Sequence[float]]]
    decades: bool = False


def drawn(figure: Figure) -> Markup:
    """The picture."""
    sizes = sorted({x for curve in figure.curves.values() for x in curve})
    values = [value for curve in figure.curves.values() for many in curve.values() for value in many]
    ticks = _decades(min(values), max(values)) if figure.decades else _steps(max(values))
    places = _across(sizes), _up(ticks, figure.decades)
    colours = dict(zip(figure.curves, COLOURS, strict=False))
    parts = [
        element("rect", width=WIDTH, height=HEIGHT, fill="#ffffff"),
        *legend(LEFT, [(name, {"fill": colour}) for name, colour in colours.items()]),
        *_axes(figure, sizes, ticks, places),
        *(part for name, curve in figure.curves.items() for part in _curve(curve, colours[name], places)),
    ]
    return framed(figure.title, parts, HEIGHT)


def _across(sizes: Sequence[int]) -> Place:
    first, last = math.log(sizes[0]), math.log(sizes[-1])
    room = WIDTH - LEFT - RIGHT
    return lambda x: round(LEFT + room * (math.log(x) - first) / (last - first))


def _up(ticks: Sequence[float], decades: bool) -> Place:
    of: Callable[[float], float] = math.log if decades else float
    first, last, base = of(ticks[0]), of(ticks[-1]), HEIGHT - BOTTOM
    return lambda y: round(base - (base - HEAD - 20) * (of(y) - first) / (last - first))


def _axes(figure: Figure, sizes: Sequence[int], ticks: Sequence[float], places: tuple[Place, Place]) -> list[Markup]:
    across, up = places
    base = HEIGHT - BOTTOM
    lines = [element("text", figure.up, x=LEFT - 8, y=HEAD + 8, text_anchor="start", fill="#555555")]
    for y in ticks:
        lines.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=up(y), y2=up(y), stroke="#dddddd"))
        lines.append(element("text", shown(y), x=LEFT - 8, y=up(y) + 4, text_anchor="end"))
    for x in sizes:
        lines.append(element("line", x1=across(x), x2=across(x), y1=base, y2=base + 4, stroke="#555555"))
        lines.append(element("text", shown(x), x=across(x), y=base + 18, text_anchor="middle"))
    return [*lines, element("text", figure.across, x=LEFT, y=HEIGHT - 10, fill="#555555")]


def _curve(curve: Mapping[int, Sequence[float]], colour: str, places: tuple[Place, Place]) -> list[Markup]:
    across, up = places
    middles = {x: statistics.median(many) for x, many in sorted(curve.items())}
    points = " ".join(f"{across(x)},{up(y)}" for x, y in middles.items())
    spreads = [
        element("line", x1=across(x), x2=across(x), y1=up(min(many)), y2=up(max(many)), stroke=colour)
        for x, many in curve.items()
    ]
    dots = [element("circle", cx=across(x), cy=up(y), r=3, fill=colour) for x, y in middles.items()]
    return [element("polyline", points=points, fill="none", stroke=colour, stroke_width=2), *spreads, *dots]


def shown(value: float) -> str:
    """``20000`` is ``20k``."""
    power = min(2, max(0, int(math.log10(value) // 3))) if value else 0
    return f"{value / 1000**power:g}{SCALES[power]}"


def _steps(most: float) -> list[float]:
    """From zero to beyond the greatest: some four round numbers."""
    rough = most / 4
    ten = 10 ** math.floor(math.log10(rough))
    step = next(ten * n for n in (1, 2, 5, 10) if ten * n >= rough)
    return [step * n for n in range(math.ceil(most / step) + 1)]


def _decades(least: float, most: float) -> list[float]:
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return [10.0**n for n in range(first, last + 1)]

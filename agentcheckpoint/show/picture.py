"""When a run's steps ran, in SVG."""

from __future__ import annotations

from agentcheckpoint.core.markup import Markup, element
from agentcheckpoint.show.layout import cut
from agentcheckpoint.show.text import duration_text
from agentcheckpoint.show.waterfall import Bar, Waterfall

WIDTH, LINE, BAR = 640, 20, 12
"""Pixels: of the picture, of a lane, of a bar."""
LEFT, RIGHT = 170, 60
"""Pixels that names and durations take beside the bars."""
HEAD, FOOT = 24, 14
WORDS = 90
"""Pixels that the words at a break take."""
LONGEST = 24
"""Columns of a name."""
MOST_BARS = 500
"""The first ones of them: a step may have been tried without end."""
LEGEND = (("ac-paid", "paid"), ("ac-free", "not paid"), ("ac-failed", "failed"))


def waterfall_picture(layout: Waterfall) -> Markup:
    """A lane for each step, a bar for each try; its colours are classes, which the card's style sets."""
    height = HEAD + LINE * len(layout.lanes) + 6
    parts = [element("title", f"when the steps ran: {len(layout.lanes)} steps"), *_legend()]
    for n, slot in enumerate(layout.lanes):
        parts.append(element("text", cut(slot, LONGEST), x=LEFT - 8, y=_top(n) + BAR - 2, text_anchor="end"))
    parts += _breaks(layout, height)
    shown = layout.bars[:MOST_BARS]
    parts += [_bar(layout, bar) for bar in shown]
    for bar in {bar.lane: bar for bar in shown}.values():
        parts.append(element("text", duration_text(bar.ms), x=_place(layout, bar.end) + 6, y=_top(bar.lane) + BAR - 2))
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height + FOOT}",
        width=WIDTH,
        height=height + FOOT,
        role="img",
        font_family="sans-serif",
        font_size=11,
        fill="currentColor",
    )


def _legend() -> list[Markup]:
    parts: list[Markup] = []
    for n, (kind, name) in enumerate(LEGEND):
        x = LEFT + 80 * n
        parts.append(element("rect", x=x, y=5, width=10, height=10, class_=kind))
        parts.append(element("text", name, x=x + 15, y=14))
    return parts


def _breaks(layout: Waterfall, height: int) -> list[Markup]:
    """A line where idle time is left out, and how much, as far as there is room to say so."""
    parts: list[Markup] = []
    free_from = 0
    for gap in layout.breaks[:MOST_BARS]:
        x = _place(layout, gap.at)
        parts.append(element("line", x1=x, y1=HEAD - 4, x2=x, y2=height, class_="ac-line", stroke_dasharray="2 3"))
        if x >= free_from:
            parts.append(element("text", f"{duration_text(gap.ms)} later", x=x, y=height + 10, text_anchor="middle"))
            free_from = x + WORDS
    return parts


def _bar(layout: Waterfall, bar: Bar) -> Markup:
    x, end, top = _place(layout, bar.start), _place(layout, bar.end), _top(bar.lane)
    kind = "ac-failed" if bar.outcome == "failed" else "ac-paid" if bar.paid else "ac-free"
    took = duration_text(bar.ms) or "0ms"
    said = f"{layout.lanes[bar.lane]}: {bar.outcome}, {'paid, ' if bar.paid else ''}{took}"
    return element(
        "g",
        element("title", said),
        element("rect", x=x, y=top, width=max(2, end - x), height=BAR, rx=2, class_=kind),
    )


def _top(lane: int) -> int:
    return HEAD + LINE * lane + (LINE - BAR) // 2


def _place(layout: Waterfall, moment: int) -> int:
    return LEFT + (WIDTH - LEFT - RIGHT) * moment // max(1, layout.length)

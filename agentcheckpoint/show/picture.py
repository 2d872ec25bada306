"""When a run's steps ran, in SVG."""

from __future__ import annotations

from agentcheckpoint.core.markup import Markup, element
from agentcheckpoint.core.spans import Span, Timeline
from agentcheckpoint.show.frame import HEAD, WIDTH, framed, legend
from agentcheckpoint.show.layout import cut
from agentcheckpoint.show.text import duration_text

LINE, BAR = 20, 12
"""Pixels: of a lane, of a bar."""
LEFT, RIGHT = 170, 60
"""Pixels that names and durations take beside the bars."""
FOOT = 14
WORDS = 90
"""Pixels that the words at a break take."""
LONGEST = 24
"""Columns of a name."""
MOST_BARS = 500
"""The first ones of them: a step may have been tried without end."""
LEGEND = (("ac-paid", "paid"), ("ac-free", "not paid"), ("ac-failed", "failed"), ("ac-open", "unfinished"))


def waterfall_picture(layout: Timeline) -> Markup:
    """A lane for each step, a bar for each try; its colours are classes, which the card's style sets."""
    height = HEAD + LINE * len(layout.lanes) + 6
    parts = legend(LEFT, ((name, {"class_": kind}) for kind, name in LEGEND))
    for n, slot in enumerate(layout.lanes):
        parts.append(element("text", cut(slot, LONGEST), x=LEFT - 8, y=_top(n) + BAR - 2, text_anchor="end"))
    parts += _breaks(layout, height)
    shown = layout.spans[:MOST_BARS]
    parts += [_bar(layout, span) for span in shown]
    took = layout.took()
    for lane, end in {span.lane: span.ended for span in sorted(shown, key=lambda span: span.ended)}.items():
        parts.append(element("text", duration_text(took[lane]), x=_place(layout, end) + 6, y=_top(lane) + BAR - 2))
    return framed(f"when the steps ran: {len(layout.lanes)} steps", parts, height + FOOT)


def _breaks(layout: Timeline, height: int) -> list[Markup]:
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


def _bar(layout: Timeline, span: Span) -> Markup:
    x, end, top = _place(layout, span.began), _place(layout, span.ended), _top(span.lane)
    kind = {"failed": "ac-failed", "unfinished": "ac-open"}.get(span.how, "ac-paid" if span.paid else "ac-free")
    bill = "" if not span.paid else "may have been billed, " if span.how == "unfinished" else "paid, "
    said = f"{layout.lanes[span.lane]}: {span.how}, {bill}{duration_text(span.ms) or '0ms'}"
    return element(
        "g",
        element("title", said),
        element("rect", x=x, y=top, width=max(2, end - x), height=BAR, rx=2, class_=kind),
    )


def _top(lane: int) -> int:
    return HEAD + LINE * lane + (LINE - BAR) // 2


def _place(layout: Timeline, moment: int) -> int:
    return LEFT + (WIDTH - LEFT - RIGHT) * moment // max(1, layout.length)

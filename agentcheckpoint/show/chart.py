"""Costs as bars, in SVG."""

from __future__ import annotations

from collections.abc import Sequence

from agentcheckpoint.core.cost_rows import CostRow, amount_text
from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.markup import Markup, element
from agentcheckpoint.show.layout import cut

MOST_BARS = 20
WIDTH, LINE, BAR = 640, 24, 14
"""Pixels: of the picture, of a row, of a bar."""
LEFT, RIGHT = 190, 150
"""Pixels that names and amounts take beside the bars."""
PARTS = (("paid", "#2f6fb7"), ("wasted", "#c4462d"), ("unresolved", "#c9a227"))
"""What a bar is made of; *unresolved* is what may have been billed, as far as it has a bound."""


def cost_chart(by: str, rows: Sequence[CostRow]) -> Markup:
    """A bar for each row, the first ones of them.

    Args:
        by: what the rows are summed by.
        rows: in their order.
    """
    bars = rows[:MOST_BARS]
    most = max((sum(_amounts(row)) for row in bars), default=0) or 1
    lines = [part for n, row in enumerate(bars) for part in _bar(by, row, LINE * (n + 1), most)]
    height = LINE * (len(bars) + 1)
    return element(
        "svg",
        element("title", f"costs by {by}"),
        *_legend(),
        *lines,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH,
        height=height,
        role="img",
        font_family="sans-serif",
        font_size=12,
        fill="currentColor",
    )


def _legend() -> list[Markup]:
    parts: list[Markup] = []
    for n, (name, colour) in enumerate(PARTS):
        x = LEFT + 95 * n
        parts.append(element("rect", x=x, y=6, width=10, height=10, fill=colour))
        parts.append(element("text", name, x=x + 15, y=15))
    return parts


def _bar(by: str, row: CostRow, top: int, most: int) -> list[Markup]:
    room = WIDTH - LEFT - RIGHT
    base, x = top + BAR, LEFT
    name = f"no {by}" if row.key is None else row.key
    parts = [element("text", cut(name, 26), x=LEFT - 8, y=base - 2, text_anchor="end")]
    for nano, (_, colour) in zip(_amounts(row), PARTS, strict=True):
        width = max(1, room * nano // most) if nano else 0
        if width:
            parts.append(element("rect", x=x, y=top, width=width, height=BAR, fill=colour))
        x += width
    parts.append(element("text", _spent(row), x=x + 6, y=base - 2))
    return parts


def _spent(row: CostRow) -> str:
    known = "unknown" if row.spent is None else f"{'≥ ' if row.unpriced else ''}{money(row.spent)}"
    return f"{known} + {amount_text(row)}" if row.unresolved else known


def _amounts(row: CostRow) -> tuple[int, int, int]:
    return row.paid or 0, row.wasted or 0, row.unresolved_bound or 0

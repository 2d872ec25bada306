"""Costs as bars, in SVG."""

from __future__ import annotations

from collections.abc import Sequence

from agentcheckpoint.core.cost_rows import CostRow, amount_text
from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.markup import Markup, element
from agentcheckpoint.show.frame import HEAD, WIDTH, framed, legend
from agentcheckpoint.show.layout import cut

MOST_BARS = 20
LINE, BAR = 24, 14
"""Pixels: of a row, of a bar."""
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
    lines = [part for n, row in enumerate(bars) for part in _bar(by, row, HEAD + LINE * n, most)]
    keys = legend(LEFT, ((name, {"fill": colour}) for name, colour in PARTS))
    return framed(f"costs by {by}", [*keys, *lines], HEAD + LINE * len(bars))


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

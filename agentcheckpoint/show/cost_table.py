"""Rows of costs as text for a terminal, and as HTML for a notebook or a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentcheckpoint.core.cost_rows import CostRow, amount_text, rest_of
from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.markup import Markup, element, grid
from agentcheckpoint.show.chart import cost_chart
from agentcheckpoint.show.layout import Column, lay_out, plain
from agentcheckpoint.show.text import tokens_text


@dataclass(frozen=True, slots=True)
class _Cell:
    """One column: its title, its texts, and how soon it goes where there is no room."""

    title: str
    text: Callable[[CostRow], str]
    keep: int
    always: bool = True
    """Shown even where no row has anything to say."""


_CELLS = (
    _Cell("runs", lambda row: f"{row.runs:,}" if row.runs else "", 3),
    _Cell("attempts", lambda row: f"{row.attempts:,}", 4),
    _Cell("paid", lambda row: money(row.paid), 9),
    _Cell("wasted", lambda row: money(row.wasted) if row.wasted != 0 else "", 7, always=False),
    _Cell("unresolved", amount_text, 8, always=False),
    _Cell("unpriced", lambda row: f"{row.unpriced:,}" if row.unpriced else "", 6, always=False),
    _Cell("saved", lambda row: money(row.saved) if row.saved != 0 else "", 5, always=False),
    _Cell("tokens", lambda row: tokens_text(row.usage) if row.usage and row.usage.input_tokens else "", 2, False),
)


def cost_text(
    by: str, rows: Sequence[CostRow], total: CostRow, notes: Sequence[str], width: int, most: int | None
) -> str:
    """The rows as a table, the total, and the notes.

    Args:
        by: what the rows are summed by.
        rows: in their order.
        total: each attempt once.
        notes: a line each.
        width: columns that a line of the table may take.
        most: how many rows are shown; the others become one; ``None``: all.

    Returns:
        Lines without a trailing newline, with every control character in the data escaped.
    """
    if not rows and not total.attempts:
        return "\n".join(["nothing was bought", *(f"note: {plain(note)}" for note in notes)])
    shown = _shown(rows, most)
    texts = [by, *(plain(_key(by, row)) for row in shown), "total"]
    columns = [Column(texts, 10)]
    for cell in _cells([*shown, total]):
        columns.append(Column([cell.title, *(cell.text(row) for row in (*shown, total))], cell.keep, right=True))
    return "\n".join([lay_out(columns, width), *(f"note: {plain(note)}" for note in notes)])


def cost_html(by: str, rows: Sequence[CostRow], total: CostRow, notes: Sequence[str], most: int) -> Markup:
    """The rows as a chart and a table, without scripts and with everything in them escaped; at most so many rows."""
    shown = _shown(rows, most)
    cells = _cells([*shown, total])
    table = grid(
        (by, *(cell.title for cell in cells)),
        ((_key(by, row), *(cell.text(row) for cell in cells)) for row in shown),
        ("total", *(cell.text(total) for cell in cells)),
    )
    said = [element("ul", *(element("li", note) for note in notes))] if notes else []
    return element("div", cost_chart(by, shown), table, *said, class_="agentcheckpoint")


def _shown(rows: Sequence[CostRow], most: int | None) -> list[CostRow]:
    if most is None or len(rows) <= most:
        return list(rows)
    return [*rows[: most - 1], rest_of(rows[most - 1 :])]


def _cells(rows: Sequence[CostRow]) -> list[_Cell]:
    return [cell for cell in _CELLS if cell.always or any(cell.text(row) for row in rows)]


def _key(by: str, row: CostRow) -> str:
    return f"no {by}" if row.key is None else row.key

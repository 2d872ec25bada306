"""A run's costs as records by model, and as a small card of HTML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from agentcheckpoint.core.cost_rows import CostRow, Tally, amount_text, row_record
from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.markup import element, grid
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.core.spending import Spent

if TYPE_CHECKING:
    from agentcheckpoint.core.ledger import CostReport

MOST_MODELS = 20
"""How many models a card names."""


def models_of(entries: Iterable[LedgerEntry]) -> tuple[CostRow, ...]:
    """What each model came to, the dearest first."""
    tally = Tally("model")
    tally.add(Spent("", None, (), None, entry) for entry in entries)
    return tuple(tally.rows())


def records_of(report: CostReport) -> list[dict[str, Any]]:
    """One record for each model."""
    return [row_record(row, "model", of_runs=False) for row in models_of(report.entries)]


def card_of(report: CostReport) -> str:
    """The report as HTML: what it says as text, and a table of its models."""
    rows = models_of(report.entries)
    cells = [
        (row.key or "no model", str(row.attempts), money(row.paid), money(row.wasted), amount_text(row))
        for row in rows[:MOST_MODELS]
    ]
    if len(rows) > MOST_MODELS:
        cells.append((f"and {len(rows) - MOST_MODELS} more", "", "", "", ""))
    table = [grid(("model", "attempts", "paid", "wasted", "unresolved"), cells)] if cells else []
    return str(element("div", element("p", str(report)), *table, class_="agentcheckpoint"))

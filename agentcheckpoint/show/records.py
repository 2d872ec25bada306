"""Rows as records: one set of keys, whoever asks: the command line's JSON, ``to_records()``, a data frame.

A key names the unit of its number; a time is ISO 8601 in UTC; what is unknown is ``None``, never 0.
"""

from __future__ import annotations

from typing import Any

from agentcheckpoint.core.foresight import Foreseen
from agentcheckpoint.core.ledger import CostReport
from agentcheckpoint.core.spending import iso_time, usd
from agentcheckpoint.show.text import StepRow


def step_record(row: StepRow) -> dict[str, Any]:
    """What a step came to. ``cost_is_whole``: no attempt of it is unpriced or unresolved."""
    return {
        "step": row.slot,
        "kind": row.kind,
        "outcome": row.outcome,
        "attempts": row.attempts,
        "took_ms": row.ms,
        "input_tokens": None if row.usage is None else row.usage.input_tokens,
        "output_tokens": None if row.usage is None else row.usage.output_tokens,
        "cost_nano_usd": row.cost,
        "cost_is_whole": row.priced,
        "size_bytes": row.size,
        "at": iso_time(row.at),
    }


def foreseen_record(step: Foreseen) -> dict[str, Any]:
    """What becomes of a step when its run goes on."""
    return {
        "step": step.slot,
        "kind": step.kind,
        "becomes": step.fate,
        "paid": step.paid,
        "cost_nano_usd": step.cost,
        "once": step.once,
    }


def cost_record(cost: CostReport) -> dict[str, Any]:
    """What was spent and saved: sums, in dollars, as exact decimals."""
    nothing_known = cost.unpriced and not cost.spent
    return {
        "spent_usd": None if nothing_known else usd(cost.spent),
        "wasted_usd": usd(cost.wasted),
        "saved_usd": usd(cost.saved),
        "replayed": cost.replayed,
        "calls": cost.attempts,
        "unpriced": cost.unpriced,
        "unresolved": cost.unresolved,
        "unresolved_at_most_usd": None if cost.unbounded else usd(cost.unresolved_bound),
    }

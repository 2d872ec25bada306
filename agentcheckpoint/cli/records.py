"""Runs, their steps and their attempts as JSON has them.

Times are ISO 8601 in UTC; money is dollars, exact, as text; what is unknown is null, never 0.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentcheckpoint.core.spending import usd

if TYPE_CHECKING:
    from agentcheckpoint.core.attempt_rows import AttemptRow
    from agentcheckpoint.core.ledger import CostReport
    from agentcheckpoint.previewing import Preview
    from agentcheckpoint.show.text import StepRow
    from agentcheckpoint.view import RunView


def moment(ms: int | None) -> str | None:
    """A time on the store's clock, milliseconds since the epoch."""
    if ms is None:
        return None
    return (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=ms)).isoformat()


def run_record(run: RunView) -> dict[str, Any]:
    """A run in a list."""
    return {
        "run": run.id,
        "namespace": run.namespace,
        "state": run.state,
        "agent": run.agent,
        "conversation": run.conversation,
        "metadata": dict(run.metadata),
        "attempt": run.attempt,
        "steps": sum(row.outcome in ("done", "overridden") for row in run.steps),
        "begun": moment(run.entries[0].at),
        "opened": moment(run.attempts[-1].began if run.attempts else None),
        "last": moment(run.entries[-1].at),
        "cost": cost_record(run.cost),
    }


def whole_record(run: RunView) -> dict[str, Any]:
    """A run with all that ``show`` knows of it."""
    origin = None if run.origin is None else {"run": run.origin.run, "after": run.origin.after}
    return {
        **run_record(run),
        "forked_from": origin,
        "bytes": run.size.total,
        "steps": [step_record(row) for row in run.steps],
        "attempts": [attempt_record(row) for row in run.attempts],
    }


def cost_record(cost: CostReport) -> dict[str, Any]:
    """What was spent and saved."""
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


def step_record(row: StepRow) -> dict[str, Any]:
    """A step."""
    return {
        "step": row.slot,
        "kind": row.kind,
        "outcome": row.outcome,
        "tries": row.attempts,
        "ms": row.ms,
        "input_tokens": None if row.usage is None else row.usage.input_tokens,
        "output_tokens": None if row.usage is None else row.usage.output_tokens,
        "cost_usd": usd(row.cost),
        "cost_is_whole": row.priced,
        "bytes": row.size,
        "at": moment(row.at),
    }


def attempt_record(row: AttemptRow) -> dict[str, Any]:
    """An attempt of the run."""
    error = row.error
    return {
        "attempt": row.number,
        "worker": row.worker,
        "tags": row.tags,
        "began": moment(row.began),
        "ended": moment(row.ended),
        "outcome": row.outcome,
        "error": None if error is None else {"type": error.type, "message": error.message, "trace": error.trace},
        "due": moment(row.due),
        "steps": row.steps,
        "cost": cost_record(row.cost),
    }


def preview_record(preview: Preview) -> dict[str, Any]:
    """What a fork or a rewind did, or would do."""
    return {
        "run": preview.id,
        "going": preview.going,
        "source": preview.source,
        "after": preview.after,
        "dry_run": preview.dry_run,
        "steps": [
            {"step": step.slot, "kind": step.kind, "becomes": step.fate, "cost_usd": usd(step.cost), "once": step.once}
            for step in preview.steps
        ],
    }


def states() -> Sequence[str]:
    """The states that a run can be in."""
    from typing import get_args

    from agentcheckpoint.core.models import RunState

    return get_args(RunState)

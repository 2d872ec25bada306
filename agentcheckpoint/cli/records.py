"""Runs and their attempts as JSON has them; ``show.records`` says how values are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentcheckpoint.core.spending import iso_time
from agentcheckpoint.listing import run_record
from agentcheckpoint.show.records import cost_record

if TYPE_CHECKING:
    from agentcheckpoint.core.attempt_rows import AttemptRow
    from agentcheckpoint.previewing import Preview
    from agentcheckpoint.view import RunView


def whole_record(run: RunView) -> dict[str, Any]:
    """A run with all that ``show`` knows of it."""
    origin = None if run.origin is None else {"run": run.origin.run, "after": run.origin.after}
    return {
        **run_record(run),
        "forked_from": origin,
        "size_bytes": run.size.total,
        "steps": run.to_records(),
        "attempts": [attempt_record(row) for row in run.attempts],
    }


def attempt_record(row: AttemptRow) -> dict[str, Any]:
    """An attempt of the run."""
    error = row.error
    return {
        "attempt": row.number,
        "worker": row.worker,
        "tags": row.tags,
        "began": iso_time(row.began),
        "ended": iso_time(row.ended),
        "outcome": row.outcome,
        "error": None if error is None else {"type": error.type, "message": error.message, "trace": error.trace},
        "due": iso_time(row.due),
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
        "steps": preview.to_records(),
    }


def states() -> Sequence[str]:
    """The states that a run can be in."""
    from typing import get_args

    from agentcheckpoint.core.models import RunState

    return get_args(RunState)

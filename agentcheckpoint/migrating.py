"""``Step(migrate=...)``: a recorded result of an older shape becomes one of today's type. The record stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from agentcheckpoint.core.models import Done
from agentcheckpoint.errors import CheckpointCorrupt, ResultNotStorable, RunMisuse

if TYPE_CHECKING:
    from agentcheckpoint.steps import Plan


def reviver(plan: Plan, done: Done) -> Callable[[bytes], Any]:
    """What makes the result of a record's bytes."""
    migrate = plan.step.migrate
    if migrate is None:
        return plan.type.decode

    def revive(data: bytes) -> Any:
        if done.version == plan.call.version:
            try:
                return plan.type.decode(data)
            except CheckpointCorrupt:
                if not _is_json(data):
                    raise
        return _migrated(plan, done, migrate(from_json(data)))

    return revive


def _is_json(data: bytes) -> bool:
    try:
        from_json(data)
    except ValueError:
        return False
    return True


def _migrated(plan: Plan, done: Done, value: object) -> Any:
    """What ``migrate=`` made, as a replay of a fresh one would give it."""
    try:
        return plan.type.encode(value)[1]
    except ResultNotStorable as exc:
        raise RunMisuse(
            f"run {plan.attempt.run_id!r}, step {plan.slot!r}: what migrate= made of the record of version "
            f"{done.version!r} does not fit: {exc}",
            run_id=plan.attempt.run_id,
            step=plan.slot,
            value=value,
        ) from exc

"""A step that is in doubt and that nobody has decided about: a person is asked what has become of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import to_json

from agentcheckpoint.asked import plan_wait
from agentcheckpoint.core.models import Intent
from agentcheckpoint.core.waits import Form
from agentcheckpoint.errors import CheckpointCorrupt, StepInDoubt, Suspended
from agentcheckpoint.flow import Course, Raised, Returned
from agentcheckpoint.identity import key_of
from agentcheckpoint.once import takes_none
from agentcheckpoint.options import Step
from agentcheckpoint.waits import wait_flow

if TYPE_CHECKING:
    from agentcheckpoint.steps import Plan

ASK = Step("decide", on_mismatch="rerun")
"""Each call that is in doubt is a question of its own: what was said of an earlier one does not count."""


@dataclass(frozen=True, slots=True)
class Result:
    """It has happened, and this is what it returned."""

    result: Any


class _Choice(Form[Any]):
    """What may be said of a step: ``"rerun"``, ``"skip"``, or its result, which has to be of the step's type."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(Literal["rerun", "skip"] | Result)
        self._step = plan.type

    def take(self, answer: str) -> tuple[bytes, Any]:
        data, said = super().take(answer)
        if said == "skip" and not takes_none(self._step):
            raise ValueError("to skip it gives the result None, and its type does not allow that")
        if isinstance(said, Result):
            try:
                self._step.decode(to_json(said.result))
            except CheckpointCorrupt as exc:
                raise ValueError(f"it is no result of this step: {exc}") from exc
        return data, said


def ask_what_to_do(plan: Plan, doubt: Intent) -> Course[Returned | None]:
    """What a person says: the step's result; or ``None``, to call it again.

    Raises:
        StepInDoubt: he has said nothing yet.
    """
    key = key_of(plan.attempt, plan.slot, (doubt.inputs or plan.call.inputs).digest)
    prompt = (
        f"{plan.step.name} must not happen twice. It was begun before: it may have happened, and nobody knows. Look at "
        f"the other side whether it has: its idempotency key is {key}. Answer rerun (call it, again perhaps), skip (go "
        'on without it; its result is None), or {"result": ...} (it has happened, and returned that).'
    )
    wait = plan_wait(plan.attempt, ASK, _Choice(plan), prompt, None, 0.0, scope=plan.inside(), about=doubt.id)
    try:
        said: Any = yield from wait_flow(wait)
    except Suspended as exc:
        raise _in_doubt(plan, key, exc) from None
    if isinstance(said, Raised):
        raise said.error
    if isinstance(said, Result):
        plan.decided = "happened"
        return Returned(plan.type.decode(to_json(said.result)))
    plan.decided = "skip" if said == "skip" else "rerun"
    return Returned(None) if plan.decided == "skip" else None


def _in_doubt(plan: Plan, key: str, waits: Suspended) -> StepInDoubt:
    return StepInDoubt(
        f"run {plan.attempt.run_id!r}, step {plan.slot!r}: it must not happen twice, and it was begun before: it may "
        "have happened, and nobody knows. It was not called. Look at the other side whether it has; its idempotency "
        f"key is {key}. Then answer rerun, skip, or its result: {waits} Or say so in the code: Step(..., "
        "in_doubt='rerun') or in_doubt='skip'; or let code find out: verify=fn returns ac.Happened(result), or None "
        "if it has not happened.",
        run_id=plan.attempt.run_id,
        step=plan.slot,
        idempotency_key=key,
    )

"""``approve=``: a person is asked before a step is called the first time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from agentcheckpoint.asked import plan_wait
from agentcheckpoint.core.waits import LONGEST_PROMPT
from agentcheckpoint.errors import NotApproved, RunMisuse
from agentcheckpoint.flow import Course, Raised
from agentcheckpoint.options import Step
from agentcheckpoint.waits import wait_flow

if TYPE_CHECKING:
    from agentcheckpoint.steps import Plan

ASK = Step("approve", on_mismatch="rerun")
"""Other arguments are another question: what was answered to the old one does not count."""


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person says to a step that is to be called.

    Attributes:
        ok: whether it may be.
        note: why, or why not; whoever called the step is told.
    """

    ok: bool
    note: str = ""


def ask_first(plan: Plan) -> Course[None]:
    """Waits until a person has said yes to this call, with these arguments.

    Raises:
        NotApproved: he has said no. That is recorded.
        Suspended: he has said nothing yet.
    """
    prompt, about = _prompt(plan), plan.call.inputs.digest
    wait = plan_wait(plan.attempt, ASK, Approval, prompt, None, 0.0, scope=plan.inside(), about=about)
    said = yield from wait_flow(wait)
    if isinstance(said, Raised):
        raise said.error
    approval = cast(Approval, said)
    if not approval.ok:
        note = f": {approval.note}" if approval.note else ""
        raise NotApproved(
            f"run {plan.attempt.run_id!r}, step {plan.slot!r}: it was not approved{note}. It was not called.",
            run_id=plan.attempt.run_id,
            step=plan.slot,
            note=approval.note,
        )


def _prompt(plan: Plan) -> str:
    """What the person is told: the text given, or the call with the start of each argument."""
    approve: Any = plan.step.approve
    if isinstance(approve, str):
        return approve
    if approve is True:
        lines = [f"\n  {argument.name} = {argument.preview}" for argument in plan.call.inputs.arguments]
        return f"May {plan.step.name} be called{' with' if lines else ''}?{''.join(lines)}"[:LONGEST_PROMPT]
    args, kwargs = plan.arguments
    text = approve(*args, **kwargs)
    if isinstance(text, str):
        return text[:LONGEST_PROMPT]
    raise RunMisuse(
        f"run {plan.attempt.run_id!r}, step {plan.slot!r}: approve= returned {type(text).__qualname__}, not a str.",
        run_id=plan.attempt.run_id,
        step=plan.slot,
    )

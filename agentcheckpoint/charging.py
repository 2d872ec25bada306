"""``run.charge``: money that was spent outside of all calls, booked once as a step of its own."""

from __future__ import annotations

from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.amounts import Dollars, dollars
from agentcheckpoint.core.budget import Ask
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.flow import Flow
from agentcheckpoint.once import refuse_options
from agentcheckpoint.options import Step, as_step, refuse_approval
from agentcheckpoint.paying import reserve
from agentcheckpoint.steps import Plan, decide, plan_step, replay
from agentcheckpoint.trying import keep_result


def charge(nano_dollars: int) -> None:
    """What is recorded as the function of a charge; its argument is compared on replay."""


def plan_charge(attempt: Attempt, step: str | Step, usd: Dollars) -> tuple[Plan, int]:
    """Takes the charge's slot.

    Raises:
        TypeError, ValueError: it is no amount.
        RunMisuse: the step has a price of its own, or a policy.
    """
    nano, named = dollars(usd, "run.charge(...)"), as_step(step)
    if named.cost is not None or named.max_cost is not None or named.retry is not None:
        raise RunMisuse(
            f"run {attempt.run_id!r}, step {named.name!r}: run.charge books the amount it is given: leave out cost=, "
            "max_cost= and retry=.",
            run_id=attempt.run_id,
            step=named.name,
        )
    refuse_options(attempt, named, "run.charge calls no function")
    refuse_approval(named, "run.charge calls nothing: ask with run.wait_for")
    return plan_step(attempt, named, "step", charge, (nano,), {}), nano


def charge_flow(plan: Plan, nano: int) -> Flow[None]:
    """Books the amount, or finds that it is booked. It is never refused: the money is gone."""
    attempt = plan.attempt
    done = yield from decide(plan)
    if done is not None:
        yield from replay(plan, done, plan.type.decode)
        return None
    try:
        entry = LedgerEntry(
            id=new_id(), bill="paid", slot=plan.slot, cost=nano, price="run.charge", bound=nano, at=attempt.now_ms()
        )
        yield from reserve(attempt, plan.call, entry, Ask(nano, 0), spent=True)
        data, _ = plan.type.encode(None)
        yield from keep_result(plan, plan.call.inputs, data, 0, (entry,), None)
    finally:
        attempt.journal.end(plan.call)
    return None

"""A step under a policy: a failed try is followed by another, in this process or the next, as the log has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentcheckpoint.core.progress import Progress, spent_at_most
from agentcheckpoint.flow import Course, Flow, Perform, Raised, Returned
from agentcheckpoint.retries.policy import Again, Decision, Over, Policy, Trial
from agentcheckpoint.store.effects import Pause, Protocol
from agentcheckpoint.trying import Tried, keep, note_failure, rejected, try_once

if TYPE_CHECKING:
    from agentcheckpoint.steps import Plan

NAP = 1.0
"""Seconds that are waited at most without a look whether the attempt may go on."""


def try_again(plan: Plan) -> Flow[Any]:
    """Tries a step until it has a result, or its policy stops it; then the last error is raised unchanged.

    The count, the time since the first try and the wait go on from where the log ends. A call always makes one try at
    least: that it was made again is its caller's decision.
    """
    trial = _trial(plan)
    while True:
        yield from _rest(plan)
        yield from trial.before()
        tried = yield from try_once(plan)
        decision = yield from _judge(plan, trial, tried)
        failed = tried.outcome
        if isinstance(failed, Returned):
            if isinstance(decision, Over) and not decision.stopped:
                return (yield from keep(plan, tried))
            failed = _refused(plan, failed.value, decision)
            decision = failed if isinstance(decision, Raised) else decision
        wait = decision.wait if isinstance(decision, Again) else None
        unsure = tried.unsure or isinstance(tried.outcome, Returned)
        is_stored = yield from note_failure(plan, failed.error, tried.ms, tried.entries, wait, unsure=unsure)
        if isinstance(decision, Raised):
            return decision
        if not isinstance(decision, Again):
            return (yield from trial.fallback()) if decision.stopped and trial.has_fallback else failed
        if not is_stored:  # the attempt has lost its store: nobody would know of what comes
            return failed
        yield from trial.before_sleep()
        trial.go_on()
        plan.attempt.check()  # where no time is waited, nothing else would hear that the attempt is to end


def _trial(plan: Plan) -> Trial:
    """The series of tries, as the log has it."""
    series, called = plan.attempt.journal.tries.series(plan.slot), plan.function
    since = plan.attempt.now_ms() - series.began if series.failed else 0
    return Policy(plan.step.retry).trial(
        called.func,
        called.args,
        called.keywords,
        number=series.failed + 1,
        elapsed=max(0, since) / 1000,
        idle_for=series.idle / 1000,
    )


def _rest(plan: Plan) -> Course[None]:
    """Waits until the next try is due; an interrupt ends it, and what is left of it is waited by whoever comes next."""
    attempt = plan.attempt
    series = attempt.journal.tries.series(plan.slot)
    began = attempt.now_ms()
    whole = series.rest(began)
    while (left := began + whole - attempt.now_ms()) > 0:
        yield Perform(_pause(min(NAP, left / 1000)))
        attempt.check()


def _pause(seconds: float) -> Protocol[None]:
    yield Pause(seconds, idle=True)


def _judge(plan: Plan, trial: Trial, tried: Tried) -> Course[Decision | Raised]:
    """What the policy says of a try; or what its functions raised: then the try is stored all the same."""
    attempt, tries = plan.attempt, plan.attempt.journal.tries
    gained = (*tries.series(plan.slot).gained, tries.gained_inside(plan.slot))
    progress = Progress(spent_at_most(dict(attempt.money), dict(attempt.waste), tried.entries), gained)
    try:
        return (yield from trial.judge(tried.outcome, level="step", progress=progress))
    except Exception as exc:
        return Raised(exc)


def _refused(plan: Plan, value: object, decision: Decision | Raised) -> Raised:
    if not isinstance(decision, Raised):
        return Raised(rejected(plan, value, "its retry policy refused it"))
    trouble = decision.error
    error = rejected(plan, value, f"its retry policy raised {type(trouble).__name__}: {trouble}")
    error.__cause__ = trouble
    return Raised(error)

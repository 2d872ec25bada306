"""A run under a policy: whether the attempt that failed is followed by another, and when, as the log has it."""

from __future__ import annotations

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.lifecycle import rest_of
from agentcheckpoint.core.progress import Progress, spent_at_most
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import RunNotFound
from agentcheckpoint.flow import Course, Raised
from agentcheckpoint.retries.policy import Decision, Over, Policy, Trial
from agentcheckpoint.store.due import standing_of
from agentcheckpoint.store.effects import Protocol


def judge_end(attempt: Attempt, error: BaseException | None) -> Course[Decision | None]:
    """What the run's policy says of the error that an attempt was left by.

    ``None``: it has no policy, or this is no failure. What the policy's own functions raise ends the run.
    """
    if attempt.options.retry is None or not isinstance(error, Exception) or attempt.fence.cancelled:
        return None
    progress = Progress(spent_at_most(attempt.money, attempt.waste), attempt.journal.tries.gained())
    try:
        return (yield from _trial(attempt).judge(Raised(error), level="run", progress=progress))
    except Exception as exc:
        error.add_note(
            f"run {attempt.run_id!r} is not tried again: its retry policy raised {type(exc).__name__}: {exc}"
        )
        return Over(f"its policy raised {type(exc).__name__}")


def before_flow(attempt: Attempt) -> Course[None]:
    """The attempt is about to begin."""
    yield from _trial(attempt).before()


def before_sleep_flow(attempt: Attempt) -> Course[None]:
    """The attempt failed, and will be followed by another."""
    yield from _trial(attempt).before_sleep()


def fallback_flow(attempt: Attempt) -> Course[object]:
    """What the policy gives instead of the last error."""
    return (yield from _trial(attempt).fallback())


def has_fallback(attempt: Attempt) -> bool:
    """Whether the policy has stopped the run, and has a value for that."""
    over = attempt.decision
    return isinstance(over, Over) and over.stopped and _trial(attempt).has_fallback


def _trial(attempt: Attempt) -> Trial:
    """The series of attempts, as the log has it."""
    if attempt.trial is None:
        series = attempt.series
        began = series.began if series.failed else attempt.clock[0]
        attempt.trial = Policy(attempt.options.retry).trial(
            number=max(series.failed, attempt.failed_before) + 1,
            elapsed=max(0, attempt.now_ms() - began) / 1000,
            idle_for=series.idle / 1000,
        )
    return attempt.trial


def read_rest(attempt: Attempt) -> Protocol[float]:
    """Seconds until the next attempt is due by the run's policy. A run that is not there is due.

    Raises:
        StoreError.
    """
    try:
        standing, now_ms = yield from standing_of(attempt.fence, released_here)
    except RunNotFound:
        return 0.0
    return rest_of(standing.state, standing.due_ms, now_ms)

"""What a call of ``run.sleep`` or ``run.wait_for`` waits for: its slot, its time, its question; before it is met."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard, cast

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.codec import UNANNOTATED
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.core.journal import Call, Scope
from agentcheckpoint.core.models import Inputs
from agentcheckpoint.core.waits import LONGEST_PROMPT, Form
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.explain import placed
from agentcheckpoint.options import Step, as_step, check_seconds
from agentcheckpoint.steps import Site, scope_in

SLEEP_HELD = 5.0
"""Seconds for which a sleep is held in place before the run is suspended."""
MAX_SECONDS = 100 * 366 * 86_400.0

Seconds: TypeAlias = float | datetime.timedelta
NO_DEFAULT: Any = UNANNOTATED


@dataclass(slots=True)
class Wait(Site):
    """One call of ``run.sleep`` or ``run.wait_for``, with all that is known before it is met.

    Attributes:
        span_ms: how long it takes at most, from when it is first met; ``None``: for ever, or until ``at_ms``.
        at_ms: when it ends at the latest, milliseconds since the epoch.
        hold: seconds to wait in place.
        form: what an answer has to look like; ``None``: it is a sleep.
        prompt: what whoever answers is told.
        default: what is returned if no answer comes in time.
    """

    span_ms: int | None
    at_ms: int | None
    hold: float
    form: Form[Any] | None = None
    prompt: str | None = None
    default: Any = NO_DEFAULT


def slept(seconds: float | None, until: str | None) -> None:
    """What is recorded as the function of a sleep; its arguments are compared on replay."""


def answered(prompt: str | None, about: str | None) -> None:
    """What is recorded as the function of a wait for an answer."""


def plan_sleep(
    attempt: Attempt, seconds: Seconds | None, until: datetime.datetime | None, name: str | Step, hold: float
) -> Wait:
    """Takes the slot of a sleep.

    Raises:
        RunMisuse: the run is not open, it is not said for how long, or an option makes no sense.
    """
    attempt.check()
    step, scope = as_step(name), scope_in(attempt)
    with placed(attempt.run_id, step.name):
        span = check_span(seconds, until)
    moment = None if until is None else until.astimezone(datetime.UTC).isoformat()
    inputs = function_inputs(slept, (span, moment), {})
    at_ms = None if until is None else max(0, int(until.timestamp() * 1000))
    span_ms = None if span is None else int(span * 1000)
    call = _call(attempt, step, scope, inputs, hold)
    return Wait(attempt, step, "step", scope, call, "run.sleep", span_ms, at_ms, hold)


def plan_wait(
    attempt: Attempt,
    name: str | Step,
    returns: Any,
    prompt: str | None,
    timeout: Seconds | None,
    hold: float,
    default: Any = NO_DEFAULT,
    *,
    scope: Scope | None = None,
    about: str | None = None,
) -> Wait:
    """Takes the slot of a wait for an answer.

    Args:
        attempt, name, returns, prompt, timeout, hold, default: as ``Run.wait_for`` takes them; or a form for the type.
        scope: inside of what; else of what the running code is in.
        about: what the question is about besides what its prompt says: it is compared too.

    Raises:
        RunMisuse: the run is not open, nobody could give such an answer, or an option makes no sense.
    """
    attempt.check()
    step = as_step(name)
    with placed(attempt.run_id, step.name):
        span = None if timeout is None else check_span(timeout, None)
        if prompt is not None and len(prompt) > LONGEST_PROMPT:
            raise RunMisuse(f"its prompt has {len(prompt):,} characters, and {LONGEST_PROMPT:,} are allowed.")
        form: Form[Any] = returns if _is_form(returns) else Form[Any](returns)
    inputs = function_inputs(answered, (prompt, about), {})
    where = scope or scope_in(attempt)
    call = _call(attempt, step, where, inputs, hold)
    span_ms = None if span is None else int(span * 1000)
    return Wait(attempt, step, "step", where, call, "run.wait_for", span_ms, None, hold, form, prompt, default)


def _is_form(returns: object) -> TypeGuard[Form[Any]]:
    return isinstance(returns, Form)


def check_span(seconds: Seconds | None, until: datetime.datetime | None) -> float | None:
    """A span in seconds; ``None``: a moment is given.

    Raises:
        RunMisuse: neither is given, or both; the span is none that can be waited for, or the moment has no time zone.
    """
    if (seconds is None) == (until is None):
        raise RunMisuse("say for how long to wait: in seconds, as a timedelta, or until= a moment.")
    if until is not None:
        if until.tzinfo is None:
            raise RunMisuse(f"until={until!r} has no time zone: write datetime(..., tzinfo=datetime.UTC).")
        return None
    span = seconds.total_seconds() if isinstance(seconds, datetime.timedelta) else seconds
    check_seconds("seconds", span, 0, MAX_SECONDS)
    return float(cast(float, span))


def _call(attempt: Attempt, step: Step, scope: Scope, inputs: Inputs, hold: float) -> Call:
    check_seconds("hold", hold, 0, float("inf"))
    if step != Step(step.name, key=step.key, on_mismatch=step.on_mismatch):
        raise RunMisuse(
            f"run {attempt.run_id!r}, wait {step.name!r}: of a Step's options it takes key= and on_mismatch= alone.",
            run_id=attempt.run_id,
            step=step.name,
        )
    return attempt.journal.call(scope, step.name, step.key, inputs)


def sleep_off(seconds: Seconds | None, until: datetime.datetime | None) -> float:
    """For how many seconds to sleep where the library is switched off. Raises ``RunMisuse`` as ``plan_sleep`` does."""
    span = check_span(seconds, until)
    if span is not None:
        return span
    assert until is not None
    return max(0.0, until.timestamp() - time.time())


def refuse_off(run_id: str, name: str | Step) -> RunMisuse:
    """The error for a question where the library is switched off."""
    return RunMisuse(
        f"run {run_id!r}, wait {as_step(name).name!r}: AGENTCHECKPOINT=off, and an answer can only be given to a run "
        "that is stored.",
        run_id=run_id,
        step=as_step(name).name,
    )

"""How long a step may take, by its own limit and its run's, and what becomes of one that takes longer."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from agentcheckpoint import current
from agentcheckpoint.core.journal import Scope
from agentcheckpoint.errors import AgentCheckpointError, Interrupted, RunMisuse, RunTimeout, StepTimeout
from agentcheckpoint.flow import Course, GivenUp, Perform, Raised
from agentcheckpoint.store.effects import Await, Protocol

if TYPE_CHECKING:
    from agentcheckpoint.steps import Site


def seconds_left(site: Site) -> float | None:
    """How long the step's function may take; ``None``: it has no limit."""
    left = site.attempt.deadline
    limits = [site.step.timeout, None if left is None else max(0.0, left - time.monotonic())]
    return min((limit for limit in limits if limit is not None), default=None)


def give_up(site: Site, execution: Scope, seconds: float | None, outcome: GivenUp) -> Course[Raised]:
    """The step is left while its function has not ended. Nothing that it still does is recorded.

    What is being stored of it at this moment is waited for, and counts.

    Args:
        seconds: how long it was allowed to take.
    """
    is_interrupt = outcome.is_interrupt and outcome.error is not None
    error = outcome.error if is_interrupt else _timeout(site, seconds, outcome.error)
    assert error is not None
    why = error if isinstance(error, AgentCheckpointError) else Interrupted(f"step {site.slot!r} was interrupted")
    for call in site.attempt.journal.give_up(execution, why):
        try:
            yield Perform(_until_landed(site.attempt.journal.end_of(call)))
        except RunMisuse:  # it is stored by the loop that this blocks: it will be
            continue
    return Raised(error)


def too_late(site: Site, value: object) -> BaseException:
    """The error for a result that comes from what was given up. It is in the error's ``value``."""
    try:
        current.check_scope(site.attempt, site.scope)
    except BaseException as late:
        if isinstance(late, AgentCheckpointError):
            late.value = value
        return late
    raise AssertionError("it was not given up")


def _until_landed(ended: Future[None]) -> Protocol[None]:
    yield Await(ended)


def _timeout(site: Site, seconds: float | None, cause: BaseException | None) -> AgentCheckpointError:
    attempt, limit = site.attempt, site.step.timeout
    where = f"run {attempt.run_id!r}, step {site.slot!r}"
    doubt = " Whether it has happened is not known: it is in doubt." if site.step.effect is not None else ""
    error: AgentCheckpointError
    if limit is None or (seconds is not None and seconds < limit):
        error = RunTimeout(
            f"{where}: the run's timeout= was up while it had not ended. It was cancelled, or left behind in its "
            f"thread.{doubt} Open the run again: it goes on with this step.",
            run_id=attempt.run_id,
            step=site.slot,
        )
    else:
        error = StepTimeout(
            f"{where}: it had not ended after its timeout= of {limit:g} s. It was cancelled, or left behind in its "
            f"thread.{doubt}",
            run_id=attempt.run_id,
            step=site.slot,
        )
    error.__cause__ = cause
    return error

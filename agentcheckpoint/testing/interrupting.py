"""Interrupts: an attempt that is asked to end at a step that a test names, as SIGTERM would."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from agentcheckpoint import stopping
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.errors import Interrupted
from agentcheckpoint.testing.crashing import expecting
from agentcheckpoint.testing.moments import Moment, observed


@contextmanager
def interrupt_during(step: str) -> Generator[None]:
    """The process is asked to stop while the step is under way: what it calls inside ends the attempt; if nothing
    does, its result is recorded first. The block ends by that.

    Args:
        step: its slot, or a keyed step's name.

    Raises:
        AssertionError: the step was not executed, or no commit came after it, so that nothing was interrupted.
    """
    with _interrupting(step, (Moment("before", "call", step), Moment("before", "done", step)), "was not executed"):
        yield


@contextmanager
def interrupt_after(step: str) -> Generator[None]:
    """The process is asked to stop when the step has just been recorded. The block ends by that.

    Args:
        step: its slot, or a keyed step's name.

    Raises:
        AssertionError: the step was not recorded.
    """
    with _interrupting(step, (Moment("after", "done", step),), "was not recorded"):
        yield


@contextmanager
def _interrupting(step: str, moments: tuple[Moment, ...], missing: str) -> Generator[None]:
    asked = False

    def observe(_: Attempt, moment: Moment) -> None:
        nonlocal asked
        if not asked and moment.is_of(step) and any((m.when, m.what) == (moment.when, moment.what) for m in moments):
            asked = True
            stopping.interrupt(f"the test interrupts it at step {step!r}")

    with expecting(Interrupted, f"step {step!r} {missing}"), observed(observe):
        yield

"""``run.sleep`` and ``run.wait_for`` of both faces. They hold no rule."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Coroutine
from typing import Any, TypeVar, overload

from agentcheckpoint.asked import NO_DEFAULT, SLEEP_HELD, Seconds, plan_sleep, plan_wait, refuse_off, sleep_off
from agentcheckpoint.core.codec import UNANNOTATED
from agentcheckpoint.face import RunBase
from agentcheckpoint.flow import run_flow, run_flow_async
from agentcheckpoint.options import Step
from agentcheckpoint.waits import wait_flow

T = TypeVar("T")
D = TypeVar("D")


class BlockingWaits(RunBase):
    """The waits of a blocking run."""

    def sleep(
        self,
        seconds: Seconds | None = None,
        /,
        *,
        until: datetime.datetime | None = None,
        name: str | Step = "sleep",
        hold: float = SLEEP_HELD,
    ) -> None:
        """Waits, durably: the time runs on while no process is there, and does not begin again in the next one.

        Args:
            seconds: for how long, from when it is first called; or a ``timedelta``.
            until: or until when; with a time zone, and the same on each attempt.
            name: the step's name, or ``Step(name, key=...)``.
            hold: seconds to wait in this process. What takes longer suspends the run: ``Suspended`` unwinds, and
                whoever opens the run when the time has come goes on.

        Raises:
            RunMisuse: it is not said for how long.
            StepMismatch: recorded with another time.
            Suspended: it takes longer than ``hold``.
        """
        if self._attempt.store is None:
            time.sleep(sleep_off(seconds, until))
        else:
            run_flow(self._attempt.store, wait_flow(plan_sleep(self._attempt, seconds, until, name, hold)))

    @overload
    def wait_for(
        self,
        name: str | Step,
        returns: type[T],
        /,
        *,
        prompt: str | None = None,
        timeout: Seconds | None = None,
        hold: float = 0.0,
    ) -> T: ...
    @overload
    def wait_for(
        self,
        name: str | Step,
        returns: type[T],
        /,
        *,
        default: D,
        prompt: str | None = None,
        timeout: Seconds | None = None,
        hold: float = 0.0,
    ) -> T | D: ...
    @overload
    def wait_for(
        self,
        name: str | Step,
        returns: Any = UNANNOTATED,
        /,
        *,
        prompt: str | None = None,
        timeout: Seconds | None = None,
        default: Any = NO_DEFAULT,
        hold: float = 0.0,
    ) -> Any: ...
    def wait_for(
        self,
        name: str | Step,
        returns: Any = UNANNOTATED,
        /,
        *,
        prompt: str | None = None,
        timeout: Seconds | None = None,
        default: Any = NO_DEFAULT,
        hold: float = 0.0,
    ) -> Any:
        """Waits for an answer, durably: of a person, or of another program, by ``ac.answer`` or the command line.

        Args:
            name: the step's name, or ``Step(name, key=...)``.
            returns: the type of the answer; without one it is plain JSON.
            prompt: what whoever answers is told, the same on each attempt.
            timeout: seconds, or a ``timedelta``, from when it is first called.
            default: what to return if no answer comes in that time; without one, ``WaitTimeout`` is raised.
            hold: seconds to wait in this process; ``math.inf``: until it comes. After that ``Suspended`` unwinds, and
                whoever opens the run when it is answered goes on.

        Returns:
            The answer, the same in type and value on every replay.

        Raises:
            WaitTimeout: no answer came in time.
            StepMismatch: recorded with another prompt.
            RunMisuse: such an answer could not be stored, or not be given in JSON.
            Suspended: there is no answer yet.
        """
        if self._attempt.store is None:
            raise refuse_off(self.id, name)
        wait = plan_wait(self._attempt, name, returns, prompt, timeout, hold, default)
        return run_flow(self._attempt.store, wait_flow(wait))


class AsyncWaits(RunBase):
    """The waits of a run on an event loop. The slot of one is taken when it is called."""

    def sleep(
        self,
        seconds: Seconds | None = None,
        /,
        *,
        until: datetime.datetime | None = None,
        name: str | Step = "sleep",
        hold: float = SLEEP_HELD,
    ) -> Coroutine[Any, Any, None]:
        """Waits, durably; see ``Run.sleep``."""
        if self._attempt.store is None:
            return asyncio.sleep(sleep_off(seconds, until))
        return run_flow_async(self._attempt.store, wait_flow(plan_sleep(self._attempt, seconds, until, name, hold)))

    @overload
    def wait_for(
        self,
        name: str | Step,
        returns: type[T],
        /,
        *,
        prompt: str | None = None,
        timeout: Seconds | None = None,
        hold: float = 0.0,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def wait_for(
        self,
        name: str | Step,
        returns: type[T],
        /,
        *,
        default: D,
        prompt: str | None = None,
        timeout: Seconds | None = None,
        hold: float = 0.0,
    ) -> Coroutine[Any, Any, T | D]: ...
    @overload
    def wait_for(
        self,
        name: str | Step,
        returns: Any = UNANNOTATED,
        /,
        *,
        prompt: str | None = None,
        timeout: Seconds | None = None,
        default: Any = NO_DEFAULT,
        hold: float = 0.0,
    ) -> Coroutine[Any, Any, Any]: ...
    def wait_for(
        self,
        name: str | Step,
        returns: Any = UNANNOTATED,
        /,
        *,
        prompt: str | None = None,
        timeout: Seconds | None = None,
        default: Any = NO_DEFAULT,
        hold: float = 0.0,
    ) -> Coroutine[Any, Any, Any]:
        """Waits for an answer, durably; see ``Run.wait_for``."""
        if self._attempt.store is None:
            raise refuse_off(self.id, name)
        wait = plan_wait(self._attempt, name, returns, prompt, timeout, hold, default)
        return run_flow_async(self._attempt.store, wait_flow(wait))

"""A user's tenacity policy, asked about one failure at a time: it is never run, and nothing of it is changed."""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from tenacity import BaseRetrying, RetryAction, RetryCallState, TryAgain

from agentcheckpoint.core.progress import Progress
from agentcheckpoint.core.roundtrip import name_of
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, Course, Invoke, Raised, Returned
from agentcheckpoint.retries.asked import asked_wait
from agentcheckpoint.retries.conditions import tell
from agentcheckpoint.retries.never import Level, never

LONGEST = 10.0 * 365 * 86_400
"""Seconds: no wait is longer. tenacity's own waits know of no end."""

_FUNCTIONS = ("retry", "stop", "wait", "before", "after", "before_sleep", "retry_error_callback")
"""What of a policy is called."""


class Retried(Protocol):
    """A function that is decorated with ``@tenacity.retry``."""

    @property
    def retry(self) -> BaseRetrying: ...


Retry: TypeAlias = BaseRetrying | Retried
"""What a user gives as a policy: ``tenacity.Retrying(...)``, ``AsyncRetrying(...)``, or a function with one."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again, after so many seconds."""

    wait: float


@dataclass(frozen=True, slots=True)
class Over:
    """No other try.

    Attributes:
        why: for people.
        stopped: it would have been tried again, but for the policy's stop. Else it is an error that is not to be
            retried, or a result that is good.
    """

    why: str
    stopped: bool = False
    wait: None = None


Decision: TypeAlias = Again | Over


class Policy:
    """Any policy of tenacity's.

    Raises:
        RunMisuse: it is none.
    """

    def __init__(self, given: object) -> None:
        found: object = given if isinstance(given, BaseRetrying) else getattr(given, "retry", None)
        if not isinstance(found, BaseRetrying):
            raise RunMisuse(
                f"retry={given!r} is no policy. Write one with tenacity: retry=Retrying(stop=stop_after_attempt(5), "
                "wait=wait_random_exponential(max=60)); or give a function that is decorated with @tenacity.retry(...)."
            )
        self.retrying = found

    @property
    def is_async(self) -> bool:
        """Whether something in it has to be awaited, as far as can be told before it is called."""
        return any(_is_async(getattr(self.retrying, name)) for name in _FUNCTIONS)

    def trial(
        self,
        function: Callable[..., Any] | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        number: int = 1,
        elapsed: float = 0.0,
        idle_for: float = 0.0,
    ) -> Trial:
        """A series of tries, to be begun or gone on with.

        Args:
            function, args, kwargs: what is tried, for the policy's own functions to look at.
            number: the number of the try that comes next.
            elapsed: seconds since the first one began, in whatever process.
            idle_for: seconds of them that were waited.
        """
        state = RetryCallState(self.retrying, cast(Any, function), args, dict(kwargs or {}))
        state.start_time = time.monotonic() - elapsed
        state.attempt_number, state.idle_for = number, idle_for
        return Trial(self.retrying, state)


class Trial:
    """One series of tries under a policy. Its courses ask for the policy's functions as a step asks for the user's.

    For each try: ``before``; the try itself; ``judge``; then, if it is to be tried again, ``before_sleep`` and
    ``go_on``, or if the policy has stopped it and ``has_fallback``, ``fallback``. What the policy's functions raise is
    raised.
    """

    def __init__(self, retrying: BaseRetrying, state: RetryCallState) -> None:
        self._retrying = retrying
        self.state = state

    @property
    def number(self) -> int:
        """The number of this try."""
        return self.state.attempt_number

    @property
    def has_fallback(self) -> bool:
        """Whether the policy has a value for the case that it stops."""
        return self._retrying.retry_error_callback is not None

    def before(self) -> Course[None]:
        """The try is about to begin."""
        if self._retrying.enabled:
            yield from self._ask("before")

    def judge(self, outcome: Returned | Raised, *, level: Level, progress: Progress | None) -> Course[Decision]:
        """What is to become of a try.

        Args:
            outcome: what it returned or raised.
            level: whether a step is tried, or a run.
            progress: what the conditions of ours look at.
        """
        policy, state = self._retrying, self.state
        why = never(outcome.error, level) if isinstance(outcome, Raised) else None
        if not policy.enabled:
            why = why or "its policy is not enabled"
        if why is not None:
            return Over(why)
        tell(state, progress)
        if isinstance(outcome, Raised):
            state.set_exception((type(outcome.error), outcome.error, outcome.error.__traceback__))
        else:
            state.set_result(outcome.value)
        explicit = isinstance(outcome, Raised) and isinstance(outcome.error, TryAgain)
        if not explicit and not (yield from self._ask("retry")):
            return Over("its policy does not retry this")
        yield from self._ask("after")
        wait = _bounded((yield from self._ask("wait")))
        if isinstance(outcome, Raised):
            wait = max(wait, asked_wait(outcome.error, time.time()))
        state.upcoming_sleep = wait
        if (yield from self._ask("stop")):
            return Over(f"its policy has stopped it after try {state.attempt_number}", stopped=True)
        return Again(wait)

    def before_sleep(self) -> Course[None]:
        """It will be tried again, after the wait that was decided."""
        state = self.state
        state.next_action = RetryAction(state.upcoming_sleep)
        state.idle_for += state.upcoming_sleep
        yield from self._ask("before_sleep")

    def go_on(self) -> None:
        """The next try is under way."""
        self.state.prepare_for_next_attempt()

    def fallback(self) -> Course[Any]:
        """What the policy gives instead of the last error."""
        return (yield from self._ask("retry_error_callback"))

    def _ask(self, name: str) -> Course[Any]:
        function: Callable[..., Any] | None = getattr(self._retrying, name)
        if function is None:
            return None
        outcome = yield Invoke(functools.partial(function, self.state))
        if isinstance(outcome, Returned):
            return outcome.value
        if isinstance(outcome.error, RunMisuse) and outcome.error.args == (ASYNC_IN_BLOCKING,):
            raise _async_policy(f"{name}={name_of(function)}")
        raise outcome.error


def check_colour(policy: Policy, what: str) -> None:
    """Raises ``RunMisuse`` if a blocking call would have to await something of the policy."""
    if policy.is_async:
        names = [name for name in _FUNCTIONS if _is_async(getattr(policy.retrying, name))]
        raise _async_policy(f"{what}: {', '.join(names)}")


def _async_policy(what: str) -> RunMisuse:
    return RunMisuse(
        f"{what} of its retry policy is async, and nothing is awaited here. Use functions that are not, or an async "
        "step in `async with ac.run(...)`."
    )


def _is_async(function: object) -> bool:
    while isinstance(function, functools.partial):
        function = cast("functools.partial[object]", function).func
    called = type(function).__call__ if callable(function) else None  # of an object that is no function
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _bounded(wait: object) -> float:
    """A wait as seconds that can be slept."""
    seconds = float(cast(float, wait))
    return min(LONGEST, max(0.0, seconds)) if not math.isnan(seconds) else 0.0

"""What both faces of a run share: its facts, its output, and the recorded values that differ each time."""

from __future__ import annotations

import datetime
import functools
import random
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.codec import UNANNOTATED, result_type
from agentcheckpoint.current import call_inside, position
from agentcheckpoint.errors import ResultNotStorable, RunMisuse
from agentcheckpoint.options import RunOptions
from agentcheckpoint.steps import scope_in
from agentcheckpoint.store.connect import switched_off

if TYPE_CHECKING:
    from agentcheckpoint.core.ledger import CostReport

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class RunBase:
    """What both faces of a run share. Made by ``ac.run``."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @classmethod
    def current(cls) -> Self:
        """The run that the running code is in: for the body of a decorated agent, and for what it calls.

        Raises:
            RunMisuse: it is in none.
        """
        here = position()
        if here is not None:
            return cls(here.attempt)
        if switched_off():
            return cls(Attempt(None, "off", RunOptions()))
        raise RunMisuse(
            f"{cls.__name__}.current(): the code that asks is in no run. Call it inside `with ac.run(...)` or a "
            "function decorated with @ac.agent; threads do not inherit the current run: give them run.bind(function)."
        )

    @property
    def id(self) -> str:
        """The run's id, as its caller named it."""
        return self._attempt.run_id

    @property
    def attempt(self) -> int:
        """The number of this attempt; the first is 1."""
        return self._attempt.number

    @property
    def state(self) -> str:
        """The run's state: running, retryable, waiting, interrupted, completed, failed or cancelled."""
        return self._attempt.state

    @property
    def cost(self) -> CostReport:
        """What was spent on the run so far, by all its attempts, and what this one saved by replaying."""
        return self._attempt.cost()

    def finish(self, value: T, *, returns: Any = UNANNOTATED) -> T:
        """Sets the run's output, stored when the ``with`` is left normally.

        Args:
            value: the output.
            returns: its type, if it is not plain JSON.

        Returns:
            The output, as it will be read.

        Raises:
            ResultNotStorable: it would not come back as it is.
        """
        output_type = result_type(type(value) if returns is UNANNOTATED and _typed(value) else returns)
        if self._attempt.store is None:
            return value
        try:
            self._attempt.output, value = output_type.encode(value)
        except ResultNotStorable as exc:
            raise ResultNotStorable(
                f"run {self.id!r}, its output: {exc}", path=exc.path, run_id=self.id, value=exc.value
            ) from exc.__cause__
        return value

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """The same function, async or not, with this run as the current one: for threads, which do not inherit it."""
        scope = scope_in(self._attempt)

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            return cast(R, call_inside(self._attempt, scope, functools.partial(function, *args, **kwargs)))

        return bound

    def __repr__(self) -> str:
        return f"<run {self.id!r}, attempt {self.attempt}, {self.state or 'not open'}>"


def _typed(value: object) -> bool:
    """Whether the value's own class says how it is stored."""
    return hasattr(type(value), "__pydantic_core_schema__") or hasattr(type(value), "__dataclass_fields__")


def recorded_now() -> datetime.datetime:
    """What ``run.now()`` records."""
    return datetime.datetime.now(datetime.UTC)


def recorded_uuid() -> uuid.UUID:
    """What ``run.uuid()`` records."""
    return uuid.uuid4()


def recorded_random() -> float:
    """What ``run.random()`` records."""
    return random.random()

"""A decorated function: what is checked when it is decorated, and how a call of it becomes a step."""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentcheckpoint import current
from agentcheckpoint.core.amounts import Dollars
from agentcheckpoint.core.codec import UNANNOTATED, annotation_of, check_type
from agentcheckpoint.core.models import StepKind
from agentcheckpoint.core.roundtrip import name_of
from agentcheckpoint.errors import NoActiveRunWarning, RunMisuse
from agentcheckpoint.flow import run_flow, run_flow_async
from agentcheckpoint.options import OFF, Approve, Effect, InDoubt, OnMismatch, Step, check_blocking, refuse_approval
from agentcheckpoint.steps import plan_step, step_flow
from agentcheckpoint.store.connect import switched_off

if TYPE_CHECKING:
    from agentcheckpoint.retries.policy import Retry

_MARK: object = vars(asyncio.coroutines).get("_is_coroutine")
"""By this Python 3.11 knows a plain function that returns coroutines; later ones have a public way."""


class Recipe:
    """A function, and the step that its calls become.

    Args:
        fn: the function as its author wrote it.
        kind: what sort of step.
        name: the step's; ``None``: the function's.
        key: makes the key of a call from the function's arguments.
        returns, ignore, on_mismatch, accept, cost, max_cost, retry, effect, in_doubt, verify, timeout, approve,
            version, max_age, migrate: the step's options.

    Raises:
        RunMisuse: calls of it could not be stored.
        InvalidName: the name cannot be used.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        kind: StepKind,
        *,
        name: str | None = None,
        key: Callable[..., str] | None = None,
        returns: Any = UNANNOTATED,
        ignore: Collection[str] = (),
        on_mismatch: OnMismatch | None = None,
        accept: Callable[[Any], bool] | None = None,
        cost: Dollars | Callable[[Any], Dollars] | None = None,
        max_cost: Dollars | None = None,
        retry: Retry | None = None,
        effect: Effect | None = None,
        in_doubt: InDoubt | None = None,
        verify: Callable[..., Any] | None = None,
        timeout: float | None = None,
        approve: Approve = False,
        version: str | int | None = None,
        max_age: float | None = None,
        migrate: Callable[[Any], Any] | None = None,
    ) -> None:
        check_function(fn, returns)
        self.fn = fn
        self.kind: StepKind = kind
        owner = _owner(fn)
        if owner is not None and not isinstance(ignore, str):
            ignore = (*ignore, owner)  # what a method is bound to is no input, as in run.step(name, thing.method)
        self.step = Step(
            default_name(fn, name),
            returns=returns,
            ignore=ignore,
            on_mismatch=on_mismatch,
            accept=accept,
            cost=cost,
            max_cost=max_cost,
            retry=retry,
            effect=effect,
            in_doubt=in_doubt,
            verify=verify,
            timeout=timeout,
            approve=approve,
            version=version,
            max_age=max_age,
            migrate=migrate,
        )
        self.is_async = is_async(fn)
        if not self.is_async:
            check_blocking(self.step, name_of(fn))
        self._key = key
        self._signature = None if key is None else inspect.signature(fn)
        self._warned = False

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], key: str | None = None) -> Any:
        """Calls the function as a step of the current run; of an async function, returns a coroutine.

        The slot is taken here, not when the coroutine is awaited. Where no run is active, the function just runs.
        """
        here = current.position()
        if here is None or here.attempt.store is None:
            refuse_approval(self.step, OFF if switched_off() else "no run is active, by which somebody could be asked")
        if here is None:
            self._warn()
        if here is None or here.attempt.store is None:
            return self.fn(*args, **kwargs)
        flow = step_flow(plan_step(here.attempt, self._step(args, kwargs, key), self.kind, self.fn, args, kwargs))
        return (run_flow_async if self.is_async else run_flow)(here.attempt.store, flow)

    def _step(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], key: str | None) -> Step:
        if key is None and self._key is not None and self._signature is not None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            key = self._key(*bound.args, **bound.kwargs)
        return self.step if key is None else replace(self.step, key=key)

    def _warn(self) -> None:
        if switched_off() or current.warn_if_unrecorded(f"A call of {name_of(self.fn)}", stacklevel=5) or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"{name_of(self.fn)} was called where no run is active: it just runs, and nothing is recorded. Call it "
            "inside `with ac.run(...)` or a function decorated with @ac.agent; threads do not inherit the current "
            "run: give them run.bind(function).",
            NoActiveRunWarning,
            stacklevel=4,
        )


def check_function(fn: object, returns: Any) -> None:
    """Refuses, when it is decorated, what would fail after it was paid for.

    Raises:
        RunMisuse: it is no function, or what it returns cannot be stored.
    """
    if isinstance(fn, classmethod | staticmethod):
        kind = "classmethod" if isinstance(fn, classmethod) else "staticmethod"
        raise RunMisuse(f"the decorators of agentcheckpoint belong below @{kind}: write @{kind} as the first line.")
    if not callable(fn):
        raise RunMisuse(f"{fn!r} is no function. A decorator's options are named: @ac.step(name={fn!r}).")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise RunMisuse(
            f"{name_of(fn)} is a generator: what it yields can be consumed only once, and a result is given again on "
            "each replay. Return a list: `return list(...)`, or make each item a step of its own."
        )
    with names_may_follow():
        check_type(annotation_of(fn) if returns is UNANNOTATED else returns)


@contextmanager
def names_may_follow() -> Generator[None]:
    """While a function is being decorated, a name that is not found is no error: the first call looks again."""
    try:
        yield
    except RunMisuse as exc:
        if not isinstance(exc.__cause__, NameError):
            raise


def _owner(fn: Callable[..., Any]) -> str | None:
    """The name of the parameter that takes what a method is bound to."""
    try:
        first = next(iter(inspect.signature(fn).parameters), None)
    except (TypeError, ValueError):
        return None
    return first if first in ("self", "cls") else None


def default_name(fn: object, name: str | None) -> str:
    """The name given, or the function's own.

    Raises:
        RunMisuse: there is neither.
    """
    if name is not None:
        return name
    own = getattr(fn, "__name__", None)
    if not isinstance(own, str):
        raise RunMisuse(f"{fn!r} has no name of its own: give it one with name=.")
    return own


def is_async(fn: object) -> bool:
    """Whether calling it gives a coroutine, also if it is a plain function that was marked so."""
    return inspect.iscoroutinefunction(fn) or (_MARK is not None and getattr(fn, "_is_coroutine", None) is _MARK)


def mark_async(thing: Any) -> None:
    """Marks a plain callable that returns coroutines, for those who ask before they call."""
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(thing)
    else:
        vars(thing)["_is_coroutine"] = _MARK

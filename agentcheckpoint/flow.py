"""A step's course as one generator, run in either colour: it asks for the user's function and for the store by turns.

A flow yields ``Invoke`` and is sent a ``Returned`` or a ``Raised``; it yields ``Perform`` and is sent what the store's
protocol returns, or has its error thrown into it. A flow that returns a ``Raised`` raises that very exception: an
exception of the user's is never wrapped, not even a ``StopIteration``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator
from concurrent.futures import wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.ownthread import in_own_thread
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.store import Store

R = TypeVar("R")

ASYNC_IN_BLOCKING = "it is async. Open the run with `async with ac.run(...)` and write `await run.step(...)`."
"""What is wrong with an async function in a blocking run."""


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call the user's function; on a loop, await what it returns if that is awaitable.

    An ``optional`` one that would have to be awaited is left out where there is no loop. ``inside`` makes what is
    entered around the call and around what is awaited. After ``seconds`` it is given up.
    """

    function: Callable[[], Any]
    optional: bool = False
    inside: Callable[[], AbstractContextManager[None]] = nullcontext
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Perform:
    """Run a protocol generator on the store."""

    protocol: Protocol[Any]


@dataclass(frozen=True, slots=True)
class Returned:
    """What the user's function returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """What the user's function raised."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The user's function had not ended when its time was up, or when its caller was interrupted."""

    error: BaseException | None = None
    """What it was left by: the interrupt, or the time-out as it came out of the function, if it did."""
    is_interrupt: bool = False


Course: TypeAlias = Generator[Invoke | Perform, Any, R]
"""A part of a flow."""
Flow: TypeAlias = Generator[Invoke | Perform, Any, R | Raised]


def run_flow(store: Store, flow: Flow[R]) -> R:
    """Runs a flow, blocking."""
    try:
        effect = next(flow)
        while True:
            if isinstance(effect, Invoke):
                effect = flow.send(_invoke(effect))
                continue
            try:
                result = store.run(effect.protocol)
            except BaseException as exc:
                effect = flow.throw(exc)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        outcome: R | Raised = stop.value
    return _unwrap(outcome)


async def run_flow_async(store: Store, flow: Flow[R]) -> R:
    """Runs a flow on the running loop."""
    try:
        effect = next(flow)
        while True:
            if isinstance(effect, Invoke):
                effect = flow.send(await _invoke_async(effect))
                continue
            try:
                result = await store.run_async(effect.protocol)
            except BaseException as exc:
                effect = flow.throw(exc)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        outcome: R | Raised = stop.value
    return _unwrap(outcome)


def _invoke(effect: Invoke) -> Returned | Raised | GivenUp:
    if effect.seconds is None:
        return _call(effect)
    course = in_own_thread(partial(_call, effect))
    try:
        wait({course}, effect.seconds)
    except BaseException as exc:
        return GivenUp(exc, is_interrupt=True)
    return course.result() if course.done() else GivenUp()


def _call(effect: Invoke) -> Returned | Raised:
    outcome = _start(effect)
    if isinstance(outcome, Raised) or not inspect.isawaitable(outcome.value):
        return outcome
    if inspect.iscoroutine(outcome.value):
        outcome.value.close()
    return Returned(None) if effect.optional else Raised(RunMisuse(ASYNC_IN_BLOCKING))


def _start(effect: Invoke) -> Returned | Raised:
    """Calls it, and awaits nothing."""
    try:
        with effect.inside():
            return Returned(effect.function())
    except BaseException as exc:
        return Raised(exc)


async def _invoke_async(effect: Invoke) -> Returned | Raised | GivenUp:
    if effect.seconds is not None:
        return await _invoke_within(effect, asyncio.timeout(effect.seconds))
    try:
        return Returned(await _call_async(effect))
    except BaseException as exc:
        return Raised(exc)


async def _call_async(effect: Invoke) -> Any:
    with effect.inside():
        value = effect.function()
        return await value if inspect.isawaitable(value) else value


async def _invoke_within(effect: Invoke, limit: asyncio.Timeout) -> Returned | Raised | GivenUp:
    """A coroutine is cancelled at the limit. What is no coroutine function cannot be: it has a thread of its own."""
    course = None if inspect.iscoroutinefunction(effect.function) else in_own_thread(partial(_start, effect))
    try:
        async with limit:
            if course is None:
                return Returned(await _call_async(effect))
            outcome = await asyncio.wrap_future(course)
            if isinstance(outcome, Raised) or not inspect.isawaitable(outcome.value):
                return outcome
            with effect.inside():
                return Returned(await outcome.value)
    except Exception as exc:
        return GivenUp(exc) if limit.expired() else Raised(exc)
    except BaseException as exc:
        return GivenUp(exc, is_interrupt=True) if course is not None and not course.done() else Raised(exc)


def _unwrap(outcome: R | Raised) -> R:
    if isinstance(outcome, Raised):  # raised where nothing else is being handled: it keeps its own context
        raise outcome.error
    return outcome

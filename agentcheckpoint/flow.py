"""A step's course as one generator, run in either colour: it asks for the user's function and for the store by turns.

A flow yields ``Invoke`` and is sent a ``Returned`` or a ``Raised``; it yields ``Perform`` and is sent what the store's
protocol returns, or has its error thrown into it. A flow that returns a ``Raised`` raises that very exception: an
exception of the user's is never wrapped, not even a ``StopIteration``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.store import Store

R = TypeVar("R")

ASYNC_IN_BLOCKING = "it is async. Open the run with `async with ac.run(...)` and write `await run.step(...)`."
"""What is wrong with an async function in a blocking run."""


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call the user's function; on a loop, await what it returns if that is awaitable.

    An ``optional`` one that would have to be awaited is left out where there is no loop. ``inside`` makes what is
    entered around the call and around what is awaited.
    """

    function: Callable[[], Any]
    optional: bool = False
    inside: Callable[[], AbstractContextManager[None]] = nullcontext


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


def _invoke(effect: Invoke) -> Returned | Raised:
    try:
        with effect.inside():
            value = effect.function()
    except BaseException as exc:
        return Raised(exc)
    if not inspect.isawaitable(value):
        return Returned(value)
    if inspect.iscoroutine(value):
        value.close()
    return Returned(None) if effect.optional else Raised(RunMisuse(ASYNC_IN_BLOCKING))


async def _invoke_async(effect: Invoke) -> Returned | Raised:
    try:
        with effect.inside():
            value = effect.function()
            return Returned(await value if inspect.isawaitable(value) else value)
    except BaseException as exc:
        return Raised(exc)


def _unwrap(outcome: R | Raised) -> R:
    if isinstance(outcome, Raised):  # raised where nothing else is being handled: it keeps its own context
        raise outcome.error
    return outcome

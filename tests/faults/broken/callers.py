"""Broken where callers come in: cancellations that are not shielded, swallowed, or taken for failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from agentcheckpoint import flow, steps
from agentcheckpoint.errors import AgentCheckpointError
from agentcheckpoint.flow import Invoke, Raised, Returned
from agentcheckpoint.store.effects import Lost, NotSent
from agentcheckpoint.store.loop_driver import LoopDriver, _Course
from agentcheckpoint.store.thread_driver import ThreadDriver

from ..variants import Variant


@contextmanager
def unshielded_commits() -> Iterator[None]:
    """A cancellation unwinds a commit under way."""

    async def run(driver: LoopDriver, protocol: Any) -> Any:
        return await driver._drive(protocol, _Course())

    with patch.object(LoopDriver, "run", run):
        yield


@contextmanager
def swallowed_cancellations() -> Iterator[None]:
    """A step whose function was cancelled is taken for one that has returned nothing."""
    invoke = flow._invoke_async

    async def invoked(effect: Invoke) -> Returned | Raised:
        outcome = await invoke(effect)
        cancelled = isinstance(outcome, Raised) and isinstance(outcome.error, asyncio.CancelledError)
        return Returned(None) if cancelled else outcome

    with patch.object(flow, "_invoke_async", invoked):
        yield


@contextmanager
def failures_of_cancellations() -> Iterator[None]:
    """A step whose function was cancelled is recorded as one that has failed."""
    note = steps.note_failure

    def noted(plan: Any, error: BaseException, ms: int, entries: Any) -> Any:
        return note(plan, error if isinstance(error, Exception) else RuntimeError(repr(error)), ms, entries)

    with patch.object(steps, "note_failure", noted):
        yield


@contextmanager
def unsettled_interrupts() -> Iterator[None]:
    """Ctrl-C leaves a commit where it stands."""

    def step(driver: ThreadDriver, protocol: Any, effect: Any, held: Any, interrupts: Any) -> Any:
        try:
            result = driver._perform(effect, held)
        except (NotSent, Lost, AgentCheckpointError) as exc:
            return protocol.throw(exc)
        return protocol.send(result)

    with patch.object(ThreadDriver, "_step", step):
        yield


VARIANTS = (
    Variant("interrupts-not-settled", "rule 7", "interrupts", unsettled_interrupts),
    Variant("commits-not-shielded", "rule 7", "awaits", unshielded_commits),
    Variant("cancellations-swallowed", "other BaseException: re-raised", "awaits", swallowed_cancellations),
    Variant(
        "cancellations-recorded-as-failures", "other BaseException: no failure", "awaits", failures_of_cancellations
    ),
)

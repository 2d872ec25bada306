"""Broken where callers come in: cancellations that are not shielded, swallowed, or taken for failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from agentcheckpoint import flow, trying
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import Intent
from agentcheckpoint.errors import AgentCheckpointError, LeaseLost
from agentcheckpoint.flow import Invoke, Raised, Returned
from agentcheckpoint.store import commit
from agentcheckpoint.store.caller import Caller
from agentcheckpoint.store.effects import Lost, NotSent, Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.lane import Lane
from agentcheckpoint.store.thread_driver import ThreadDriver

from ..variants import Variant


@contextmanager
def unshielded_commits() -> Iterator[None]:
    """A cancellation unwinds a commit under way."""
    submit = Lane.submit

    async def submitted(lane: Lane, packet: Any, _caller: Caller) -> Any:
        return await asyncio.shield(submit(lane, packet, Caller()))

    async def settled(_caller: Caller, under_way: Any) -> Any:
        return await under_way

    with patch.object(Lane, "submit", submitted), patch.object(Caller, "settled", settled):
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
    note = trying.note_failure

    def noted(plan: Any, error: BaseException, ms: int, entries: Any) -> Any:
        return note(plan, error if isinstance(error, Exception) else RuntimeError(repr(error)), ms, entries)

    with patch.object(trying, "note_failure", noted):
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


@contextmanager
def unfenced_names() -> Iterator[None]:
    """The data keys' names carry no token, so that what a replaced worker sends lands in its heir's data."""

    def nothing(_fence: Fence) -> Protocol[int]:
        return 0
        yield

    names = {
        part: (lambda keys, _token, part=part: f"ac:{{{keys.tag}}}:0.none:{part}")
        for part in ("log", "results", "meta")
    }
    with patch.multiple(RunKeys, **names), patch.object(commit, "sweep", nothing):
        yield


@contextmanager
def uncompared_heads() -> Iterator[None]:
    """A commit counts whatever the head was that came with its reply."""
    judge = commit.judge

    def judged(fence: Fence, token: str, replies: Any) -> Any:
        verdict = judge(fence, token, replies)
        return "committed" if verdict == "foreign" else verdict

    def acknowledge(*_: object) -> bool:
        return True

    with patch.object(commit, "judge", judged), patch.object(Fence, "acknowledge", acknowledge):
        yield


@contextmanager
def unheeded_intents() -> Iterator[None]:
    """A worker whose intent was refused, since the run is another's, pays all the same."""
    send = Attempt.commit

    def commit_all(self: Attempt, change: Any, call: Any, value: object = None) -> Any:
        try:
            return (yield from send(self, change, call, value))
        except LeaseLost:
            if not isinstance(change.entry, Intent):
                raise
            self.fence.heir = None  # nor does it look at its right again before it calls
            return None

    with patch.object(Attempt, "commit", commit_all):
        yield


@contextmanager
def unbooked_waste() -> Iterator[None]:
    """What a replaced worker has paid is booked nowhere."""

    def nothing(_attempt: Attempt, _entries: object) -> Protocol[list[Any]]:
        return []
        yield

    with patch.object(Attempt, "_book_waste", nothing):
        yield


VARIANTS = (
    Variant("names-without-token", "fencing by name", "pauses", unfenced_names),
    Variant("heads-not-compared", "rule 1", "pauses", uncompared_heads),
    Variant("intents-not-heeded", "an intent stops a replaced worker before it pays", "pauses", unheeded_intents),
    Variant("waste-not-booked", "rule 13", "pauses", unbooked_waste),
    Variant("interrupts-not-settled", "rule 7", "interrupts", unsettled_interrupts),
    Variant("commits-not-shielded", "rule 7", "awaits", unshielded_commits),
    Variant("cancellations-swallowed", "other BaseException: re-raised", "awaits", swallowed_cancellations),
    Variant(
        "cancellations-recorded-as-failures", "other BaseException: no failure", "awaits", failures_of_cancellations
    ),
)

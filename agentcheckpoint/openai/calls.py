"""What users say of a model call: a name, before it; a refusal, after it."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.journal import Call
from agentcheckpoint.core.ledger import as_waste
from agentcheckpoint.core.models import Done, Rejected
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.flow import Flow, Perform, run_flow
from agentcheckpoint.options import OnMismatch, Step
from agentcheckpoint.store.commit import Change

_named: ContextVar[list[Step] | None] = ContextVar("agentcheckpoint_name", default=None)


@contextlib.contextmanager
def name(step: str, /, *, key: str | None = None, on_mismatch: OnMismatch | None = None) -> Generator[None]:
    """Names the next model call: ``with ac.name("plan"): client.responses.create(...)``.

    Args:
        step: the step's name, instead of the endpoint's (``chat``, ``responses``, ``embeddings``).
        key: what tells it apart from others of that name.
        on_mismatch: what to do when it is recorded with another request; as in ``Step``.
    """
    token = _named.set([Step(step, key=key, on_mismatch=on_mismatch)])
    try:
        yield
    finally:
        _named.reset(token)


def take_name() -> Step | None:
    """The name that was said for this call, and for no other."""
    waiting = _named.get()
    return waiting.pop() if waiting else None


def reject(answer: object, why: str) -> None:
    """Refuses a recorded answer: it is booked as wasted, and its step is open again, in one commit.

    Call it where the answer turns out to be no good; the next call, in this attempt or a later one, buys another.

    Args:
        answer: what the SDK returned, or the answer's id; for an answer without any, its step's slot.
        why: the reason, stored with it.

    Raises:
        RunMisuse: there is no current run, or it did not hand out this answer.
        StoreError: the refusal could not be stored, or an earlier commit of this attempt has an unknown fate.
    """
    here = current.position()
    found = None if here is None else next(filter(None, map(here.attempt.answers.get, _names_of(answer))), None)
    if here is None or found is None or here.attempt.store is None:
        raise RunMisuse(
            f"ac.reject: {reprlib.repr(answer)} is not an answer that the current run has handed out. Give it what "
            "the wrapped client returned, or the answer's id, inside the run."
        )
    here.attempt.check()
    run_flow(here.attempt.store, _reject(here.attempt, *found, why))


def _names_of(answer: object) -> list[str]:
    """What an answer may be known as. The request's id comes first: some servers give equal answers equal ids."""
    if isinstance(answer, str):
        return [answer]
    inner: Any = getattr(answer, "response", None)  # of an event of a stream, or of the stream itself
    given = [getattr(answer, name, None) for name in ("_request_id", "request_id", "id")]
    given += [getattr(inner, "id", None), getattr(inner, "headers", {}).get("x-request-id")]
    return [name for name in given if isinstance(name, str)]


def _reject(attempt: Attempt, done: Done, call: Call, why: str) -> Flow[None]:
    entries = tuple(as_waste(attempt.money.get(entry.id, entry) for entry in done.entries))
    refused = Rejected(
        id=new_id(), at=attempt.now_ms(), slot=done.slot, target=done.id, why=why[:2000], entries=entries
    )
    yield Perform(attempt.commit(Change(refused), call))
    attempt.journal.reject(done.slot, done.id)
    attempt.journal.reopen(call)
    for known_as in [key for key, (other, _) in attempt.answers.items() if other.id == done.id]:
        del attempt.answers[known_as]
    return None

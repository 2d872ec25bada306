"""What users say of a model call: a name, before it; a refusal, after it."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.amounts import Dollars
from agentcheckpoint.core.journal import Call
from agentcheckpoint.core.ledger import as_waste
from agentcheckpoint.core.models import Done, LedgerEntry, Rejected
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.flow import Flow, Perform, run_flow
from agentcheckpoint.options import OnMismatch, Step
from agentcheckpoint.store.commit import Change
from agentcheckpoint.store.connect import switched_off

_named: ContextVar[list[Step] | None] = ContextVar("agentcheckpoint_name", default=None)


@contextlib.contextmanager
def name(
    step: str,
    /,
    *,
    key: str | None = None,
    on_mismatch: OnMismatch | None = None,
    max_cost: Dollars | None = None,
    max_tokens: int | None = None,
) -> Generator[None]:
    """Names the next model call: ``with ac.name("plan"): client.responses.create(...)``.

    Args:
        step: the step's name, instead of the endpoint's (``chat``, ``responses``, ``embeddings``).
        key: what tells it apart from others of that name.
        on_mismatch: what to do when it is recorded with another request; as in ``Step``.
        max_cost, max_tokens: what the call takes at most, under a budget that cannot tell; as in ``Step``.
    """
    named = Step(step, key=key, on_mismatch=on_mismatch, max_cost=max_cost, max_tokens=max_tokens)
    token = _named.set([named])
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
    With ``AGENTCHECKPOINT=off`` nothing is recorded, and it does nothing.

    Args:
        answer: what the SDK returned, or the answer's id; for an answer without any, its step's slot.
        why: the reason, stored with it.

    Raises:
        RunMisuse: there is no current run, or it did not hand out this answer.
        LeaseLost: the run is another worker's now, as may be the answer.
        StoreError: the refusal could not be stored, or an earlier commit of this attempt has an unknown fate.
    """
    here = current.position()
    if switched_off():
        return
    found = None if here is None else next(filter(None, map(here.attempt.answers.get, _names_of(answer))), None)
    if here is None or found is None or here.attempt.store is None:
        if here is not None:
            here.attempt.check()
        raise RunMisuse(
            f"ac.reject: {reprlib.repr(answer)} is not an answer that the current run has handed out. Give it what "
            "the wrapped client returned, or the answer's id, inside the run."
        )
    here.attempt.check()
    entries = as_waste(here.attempt.money.get(entry.id, entry) for entry in found[0].entries)
    run_flow(here.attempt.store, refuse(here.attempt, *found, why, tuple(entries)))


def _names_of(answer: object) -> list[str]:
    """What an answer may be known as. The request's id comes first: some servers give equal answers equal ids."""
    if isinstance(answer, str):
        return [answer]
    inner: Any = getattr(answer, "response", None)  # of an event of a stream, or of the stream itself
    given = [getattr(answer, name, None) for name in ("_request_id", "request_id", "id")]
    given += [getattr(inner, "id", None), getattr(inner, "headers", {}).get("x-request-id")]
    return [name for name in given if isinstance(name, str)]


def refuse(attempt: Attempt, done: Done, call: Call, why: str, entries: tuple[LedgerEntry, ...]) -> Flow[None]:
    """Stores that a recorded answer was refused, with what its attempts came to: its step is open again."""
    refused = Rejected(
        id=new_id(), at=attempt.now_ms(), slot=done.slot, target=done.id, why=why[:2000], entries=entries
    )
    yield Perform(attempt.commit(Change(refused), call))
    attempt.journal.reject(done.slot, done.id)
    attempt.journal.reopen(call)
    for known_as in [key for key, (other, _) in attempt.answers.items() if other.id == done.id]:
        del attempt.answers[known_as]
    return None

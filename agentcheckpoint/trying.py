"""One try of a step: its function is called, what came of it is examined, and stored as a result or a failure."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentcheckpoint import current
from agentcheckpoint.attempt import before_call, new_id
from agentcheckpoint.core.ledger import answer_money, as_waste, rolled_up
from agentcheckpoint.core.models import MOST, Done, Failed, Inputs, LedgerEntry
from agentcheckpoint.errors import AgentCheckpointError, ResultNotStorable, RunMisuse, StepRejected
from agentcheckpoint.explain import failure, place, placed
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, Course, Flow, GivenUp, Invoke, Perform, Raised, Returned
from agentcheckpoint.limits import give_up, seconds_left, too_late
from agentcheckpoint.once import clear_up
from agentcheckpoint.paying import buy, charged, paid
from agentcheckpoint.store.changes import Beside, Change, Outdated, Superseded

if TYPE_CHECKING:
    from agentcheckpoint.steps import Plan, Site


@dataclass(frozen=True, slots=True)
class Tried:
    """What one try of a step came to. Nothing of it is stored yet.

    Attributes:
        outcome: its result as a replay will give it; or what it raised, or why its result is none.
        ms: how long it took, milliseconds.
        entries: what it cost.
        data: the result's bytes.
        unsure: it failed; if it must not happen twice, it may have happened all the same.
    """

    outcome: Returned | Raised
    ms: int
    entries: tuple[LedgerEntry, ...]
    data: bytes = b""
    unsure: bool = False


def try_once(plan: Plan) -> Course[Tried]:
    """Calls the function, after its intent is stored if it is paid for, or must not happen twice."""
    attempt = plan.attempt
    attempt.check_time()
    known = yield from clear_up(plan)
    if known is not None:
        return _known(plan, known)
    bought = yield from buy(plan)
    began, inside = attempt.now_ms(), plan.inside()
    where, seconds = functools.partial(current.at, attempt, inside), seconds_left(plan)
    function: Callable[[], Any] = plan.function
    for put in before_call:
        function = put(attempt, plan.slot, function)
    outcome = yield Invoke(function, inside=where, seconds=seconds)
    given_up = isinstance(outcome, GivenUp)
    if isinstance(outcome, GivenUp):
        outcome = yield from give_up(plan, inside, seconds, outcome)
    ms = attempt.now_ms() - began
    entries = rolled_up(attempt.money, bought, ms) if bought is not None and inside.encloses else ()
    if isinstance(outcome, Raised):
        if isinstance(outcome.error, RunMisuse) and outcome.error.args == (ASYNC_IN_BLOCKING,):
            place(outcome.error, attempt.run_id, plan.slot)
        return Tried(outcome, ms, entries, unsure=given_up)
    if bought is not None and not entries:
        entries = (paid(plan, bought, outcome.value, ms),)
    return examine(plan, outcome.value, ms, entries)


def _known(plan: Plan, known: Returned | Raised) -> Tried:
    """What became of a call that was in doubt; one whose ``verify=`` failed stays in doubt."""
    if isinstance(known, Raised):
        return Tried(known, 0, (), unsure=True)
    doubt = plan.attempt.journal.doubts.of(plan.slot)
    entries = doubt.entries if doubt is not None and plan.decided == "happened" else ()
    return examine(plan, known.value, 0, tuple(charged(plan.step, entry, known.value, 0) for entry in entries[-1:]))


def examine(plan: Plan, value: object, ms: int, entries: tuple[LedgerEntry, ...]) -> Tried:
    """Whether a value can be stored, and is accepted. If not, the error carries it: it may be paid for."""
    try:
        data, value = plan.type.encode(value)
    except ResultNotStorable as exc:
        return Tried(Raised(place(exc, plan.attempt.run_id, plan.slot)), ms, entries, unsure=True)
    refusal = _refusal(plan, value)
    if refusal is not None:
        return Tried(Raised(refusal), ms, entries, unsure=True)
    return Tried(Returned(value), ms, entries, data)


def keep(plan: Plan, tried: Tried) -> Flow[Any]:
    """Commits what a try came to: its result, or that it failed, with what was paid for it as wasted."""
    if isinstance(tried.outcome, Raised):
        yield from note_failure(plan, tried.outcome.error, tried.ms, tried.entries, unsure=tried.unsure)
        return tried.outcome
    value = tried.outcome.value
    stored = yield from keep_result(plan, plan.call.inputs, tried.data, tried.ms, tried.entries, value)
    plan.attempt.check_stop()
    with placed(plan.attempt.run_id, plan.slot):
        return value if stored is None else plan.type.decode(stored)


def keep_result(
    plan: Site, inputs: Inputs, data: bytes, ms: int, entries: tuple[LedgerEntry, ...], value: object
) -> Course[bytes | None]:
    """Commits a step's result bytes with its cost. Returns ``None``, or the bytes that an heir had recorded first."""
    done, payload = record_of(plan, inputs, data, ms, entries)
    return (yield from store_record(plan, done, payload, value))


def record_of(
    plan: Site, inputs: Inputs, data: bytes, ms: int, entries: tuple[LedgerEntry, ...] = ()
) -> tuple[Done, bytes]:
    """The record of a step's result bytes, and these as they are stored."""
    attempt, entry_id = plan.attempt, new_id()
    if plan.call.mismatch is not None:  # it is run again: the answer that stood here counts no more
        superseded = answer_money(plan.call.mismatch)
        entries = (*as_waste(attempt.money.get(entry.id, entry) for entry in superseded), *entries)
    stored, payload = attempt.chain.encode(data, attempt.where(plan.slot, entry_id))
    done = Done(
        id=entry_id,
        at=attempt.now_ms(),
        slot=plan.slot,
        kind=plan.kind,
        inputs=inputs,
        payload=payload,
        function=plan.name,
        version=plan.call.version,
        overlap=plan.call.overlap,
        decided=plan.decided,
        ms=ms,
        entries=entries,
    )
    return done, stored


def store_record(
    plan: Site, done: Done, payload: bytes, value: object, beside: Beside | None = None
) -> Course[bytes | None]:
    """Commits a record. Returns ``None``, or the bytes that an heir had recorded first.

    Raises:
        Outdated: what the transaction ``beside`` it rests on has changed; the call goes on.
    """
    attempt = plan.attempt
    if not attempt.journal.land(plan.call, plan.scope):
        late = too_late(plan, value)
        yield from note_failure(plan, late, done.ms, done.entries)
        raise late
    try:
        outcome = yield Perform(attempt.commit(Change(done, payload, beside=beside), plan.call, value))
    except Outdated:
        raise
    except BaseException as exc:  # stored or not: the caller does not get it
        attempt.journal.undelivered(plan.call)
        if isinstance(exc, AgentCheckpointError) and exc.value is None:
            exc.value = value
        raise
    finally:
        attempt.journal.landed(plan.call)
    if isinstance(outcome, Superseded):
        theirs = outcome.entry
        return attempt.chain.decode(outcome.result, theirs.payload, attempt.where(theirs.slot, theirs.id))
    return None


def note_failure(
    plan: Site,
    error: BaseException,
    ms: int,
    entries: tuple[LedgerEntry, ...],
    wait: float | None = None,
    *,
    unsure: bool = False,
) -> Course[bool]:
    """Stores a failed attempt, and in how many seconds it is followed by another.

    An interrupt or a cancellation is none; and no trouble here hides the error itself. Returns whether it is stored.

    Args:
        unsure: if it must not happen twice, it may have happened all the same.
    """
    attempt = plan.attempt
    is_late = plan.scope.given_up() is not None  # of it nothing is told but its money: its step may run again already
    if not (entries if is_late else isinstance(error, Exception)):
        return False
    now = attempt.now_ms()
    failed = Failed(
        id=new_id(),
        at=now,
        slot=plan.slot,
        kind=plan.kind,
        error=failure(error),
        in_doubt=True if is_late or (unsure and plan.step.effect is not None) else None,
        ms=ms,
        next_at=None if wait is None else min(MOST, now + math.ceil(wait * 1000)),
        entries=tuple(as_waste(entries)),
    )
    try:
        yield Perform(attempt.commit(Change(failed), plan.call))
    except AgentCheckpointError as trouble:
        error.add_note(f"agentcheckpoint could not store this failed attempt: {trouble}")
        return False
    if not is_late:
        attempt.journal.failed(failed)
    return True


def _refusal(plan: Plan, value: object) -> StepRejected | None:
    if plan.step.accept is None or plan.decided == "skip":
        return None
    try:
        return None if plan.step.accept(value) else rejected(plan, value, "its accept= said no")
    except Exception as exc:
        return rejected(plan, value, f"its accept= raised {type(exc).__name__}: {exc}")


def rejected(plan: Plan, value: object, why: str) -> StepRejected:
    """The error of an answer that came, and is no good."""
    return StepRejected(
        f"run {plan.attempt.run_id!r}, step {plan.slot!r}: {why}. The answer is booked as wasted and is in this "
        "error's `value`; the step runs again when it is called again.",
        run_id=plan.attempt.run_id,
        step=plan.slot,
        value=value,
    )

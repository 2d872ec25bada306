"""One try of a step: its function is called, what came of it is examined, and stored as a result or a failure."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentcheckpoint import current
from agentcheckpoint.attempt import new_id
from agentcheckpoint.core.ledger import answer_money, as_waste, rolled_up
from agentcheckpoint.core.models import MOST, Done, Failed, Inputs, LedgerEntry, Payload, Usage
from agentcheckpoint.core.pricing import priced
from agentcheckpoint.core.usage import Measured, usage_of
from agentcheckpoint.errors import AgentCheckpointError, ResultNotStorable, RunMisuse, StepRejected
from agentcheckpoint.explain import failure, place, placed
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, Course, Flow, Invoke, Perform, Raised, Returned
from agentcheckpoint.paying import buy, charged
from agentcheckpoint.results import revive
from agentcheckpoint.store.commit import Change, Superseded

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
    """

    outcome: Returned | Raised
    ms: int
    entries: tuple[LedgerEntry, ...]
    data: bytes = b""


def try_once(plan: Plan) -> Course[Tried]:
    """Calls the function, after its intent is stored if it is paid for."""
    attempt = plan.attempt
    bought = yield from buy(plan)
    began, inside = attempt.now_ms(), plan.inside()
    outcome = yield Invoke(plan.function, inside=functools.partial(current.at, attempt, inside))
    ms = attempt.now_ms() - began
    entries = rolled_up(attempt.money, bought, ms) if bought is not None and inside.encloses else ()
    if isinstance(outcome, Raised):
        if isinstance(outcome.error, RunMisuse) and outcome.error.args == (ASYNC_IN_BLOCKING,):
            place(outcome.error, attempt.run_id, plan.slot)
        return Tried(outcome, ms, entries)
    if bought is not None and not entries:
        entries = (_paid(plan, bought, outcome.value, ms),)
    return examine(plan, outcome.value, ms, entries)


def examine(plan: Plan, value: object, ms: int, entries: tuple[LedgerEntry, ...]) -> Tried:
    """Whether a value can be stored, and is accepted. If not, the error carries it: it may be paid for."""
    try:
        data, value = plan.type.encode(value)
    except ResultNotStorable as exc:
        return Tried(Raised(place(exc, plan.attempt.run_id, plan.slot)), ms, entries)
    refusal = _refusal(plan, value)
    return Tried(Returned(value) if refusal is None else Raised(refusal), ms, entries, data)


def keep(plan: Plan, tried: Tried) -> Flow[Any]:
    """Commits what a try came to: its result, or that it failed, with what was paid for it as wasted."""
    if isinstance(tried.outcome, Raised):
        yield from note_failure(plan, tried.outcome.error, tried.ms, tried.entries)
        return tried.outcome
    value = tried.outcome.value
    stored = yield from keep_result(plan, plan.call.inputs, tried.data, tried.ms, tried.entries, value)
    with placed(plan.attempt.run_id, plan.slot):
        return value if stored is None else plan.type.decode(stored)


def keep_result(
    plan: Site, inputs: Inputs, data: bytes, ms: int, entries: tuple[LedgerEntry, ...], value: object
) -> Course[bytes | None]:
    """Commits a step's result bytes with its cost. Returns ``None``, or the bytes that an heir had recorded first."""
    attempt = plan.attempt
    entry_id = new_id()
    if plan.call.mismatch is not None:  # on_mismatch="rerun": the answer that stood here counts no more
        superseded = answer_money(plan.call.mismatch)
        entries = (*as_waste(attempt.money.get(entry.id, entry) for entry in superseded), *entries)
    payload = attempt.chain.encode(data, attempt.where(plan.slot, entry_id))
    done = Done(
        id=entry_id,
        at=attempt.now_ms(),
        slot=plan.slot,
        kind=plan.kind,
        inputs=inputs,
        payload=Payload(size=len(payload), codec=attempt.chain.name),
        function=plan.name,
        overlap=plan.call.overlap,
        ms=ms,
        entries=entries,
    )
    try:
        outcome = yield Perform(attempt.commit(Change(done, payload), plan.call, value))
    except BaseException as exc:  # stored or not: the caller does not get it
        attempt.journal.undelivered(plan.call)
        if isinstance(exc, AgentCheckpointError) and exc.value is None:
            exc.value = value
        raise
    if isinstance(outcome, Superseded):
        theirs = outcome.entry
        return revive(attempt.chain, outcome.result, theirs.payload, attempt.where(theirs.slot, theirs.id))
    return None


def note_failure(
    plan: Site, error: BaseException, ms: int, entries: tuple[LedgerEntry, ...], wait: float | None = None
) -> Course[bool]:
    """Stores a failed attempt, and in how many seconds it is followed by another.

    An interrupt or a cancellation is none; and no trouble here hides the error itself. Returns whether it is stored.
    """
    attempt = plan.attempt
    if not isinstance(error, Exception):
        return False
    now = attempt.now_ms()
    failed = Failed(
        id=new_id(),
        at=now,
        slot=plan.slot,
        kind=plan.kind,
        error=failure(error),
        ms=ms,
        next_at=None if wait is None else min(MOST, now + math.ceil(wait * 1000)),
        entries=tuple(as_waste(entries)),
    )
    try:
        yield Perform(attempt.commit(Change(failed), plan.call))
    except AgentCheckpointError as trouble:
        error.add_note(f"agentcheckpoint could not store this failed attempt: {trouble}")
        return False
    attempt.journal.failed(failed)
    return True


def _paid(plan: Plan, bought: LedgerEntry, result: object, ms: int) -> LedgerEntry:
    """The ledger entry of an answer that came: tokens and price as far as they can be known."""
    step, trouble = plan.step, None
    if plan.kind != "llm":
        return charged(step, bought, result, ms)
    try:
        said = Measured(_usage(step.usage(result))) if step.usage is not None else usage_of(result)
    except Exception as exc:  # the answer is paid for, and is not to be lost for it
        raised = failure(exc)
        said, trouble = Measured(), f"unmeasured: usage= raised {raised.type}: {raised.message[:200]}"
    bought = priced(bought, said, step.prices)
    paid = bought.model_copy(update={"bill": "paid", "ms": ms, "price": trouble or bought.price})
    return charged(step, paid, result, ms)


def _usage(said: object) -> Usage | None:
    if said is None or isinstance(said, Usage):
        return said
    raise TypeError(f"it returned {type(said).__qualname__}, not ac.Usage or None")


def _refusal(plan: Plan, value: object) -> StepRejected | None:
    if plan.step.accept is None:
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

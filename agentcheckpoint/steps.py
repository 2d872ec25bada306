"""The course of a step: replay it, or execute it and commit its result. One text for both colours."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.codec import UNANNOTATED, ResultType, annotation_of, result_type
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.core.journal import Call, Scope
from agentcheckpoint.core.ledger import answer_money, as_waste, rolled_up
from agentcheckpoint.core.models import Done, Failed, Inputs, LedgerEntry, Payload, StepKind, Usage
from agentcheckpoint.core.pricing import priced
from agentcheckpoint.core.roundtrip import name_of
from agentcheckpoint.core.usage import Measured, usage_of
from agentcheckpoint.errors import AgentCheckpointError, ResultNotStorable, RunMisuse, StepRejected
from agentcheckpoint.explain import failure, place, placed
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, Course, Flow, Invoke, Perform, Raised, Returned
from agentcheckpoint.options import Step
from agentcheckpoint.paying import buy, charged
from agentcheckpoint.results import revive
from agentcheckpoint.store.commit import Change, Superseded
from agentcheckpoint.store.effects import Await, Protocol

T = TypeVar("T")


@dataclass(slots=True)
class Site:
    """Where a call stands: its run, its options, its slot. Once it is forgotten (never awaited), the call is over."""

    attempt: Attempt
    step: Step
    kind: StepKind
    scope: Scope
    call: Call
    name: str
    """What is called, for people."""

    @property
    def slot(self) -> str:
        return self.call.slot

    def __del__(self) -> None:
        self.attempt.journal.end(self.call)


@dataclass(slots=True)
class Plan(Site):
    """A call of a function with all that is known before it runs."""

    type: ResultType[Any]
    function: Callable[[], Any]


def plan_step(
    attempt: Attempt,
    step: Step,
    kind: StepKind,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Plan:
    """Takes the step's slot, now: parallel calls are numbered in the order in which they are made.

    Raises:
        RunMisuse: the run is not open, or the result cannot be stored: before anything is paid.
        LeaseLost: another worker has the run.
    """
    attempt.check()
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise RunMisuse(
            f"run {attempt.run_id!r}, step {step.name!r}: {name_of(fn)} is a generator: what it yields can be "
            "consumed only once, and a result is given again on each replay. Call something that returns a list.",
            run_id=attempt.run_id,
            step=step.name,
        )
    with placed(attempt.run_id, step.name):
        kind_of_result = result_type(annotation_of(fn) if step.returns is UNANNOTATED else step.returns)
    inputs = function_inputs(fn, args, kwargs, step.ignore)
    scope = scope_in(attempt)
    call = attempt.journal.call(scope, step.name, step.key, inputs)
    name = f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', type(fn).__qualname__)}"
    return Plan(attempt, step, kind, scope, call, name, kind_of_result, functools.partial(fn, *args, **kwargs))


def scope_in(attempt: Attempt) -> Scope:
    """The step that the running code is inside of, in this attempt; else the run itself."""
    here = current.position()
    return here.scope if here is not None and here.attempt is attempt else attempt.root


def step_flow(plan: Plan) -> Flow[Any]:
    """Replays the step, or executes it and stores its result.

    Returns the result as it will be on every replay. What the function raises is raised unchanged, and stored as a
    failed attempt.
    """
    done = yield from decide(plan)
    if done is not None:
        return (yield from replay(plan, done, plan.type.decode))
    return (yield from _execute(plan))


def decide(site: Site) -> Course[Done | None]:
    """The record to replay, or ``None``: execute. First ends what must end before: open streams, a call of this key."""
    attempt = site.attempt
    attempt.check()  # a coroutine may be awaited long after its call
    try:
        for finish in list(attempt.before_next_call):
            yield from finish()
        while (under_way := attempt.journal.start(site.call)) is not None:
            yield Perform(_until_ended(under_way))
            attempt.check()
        return attempt.decide(site.call, site.step.on_mismatch, site.name)
    except BaseException:
        attempt.journal.end(site.call)
        raise


def _until_ended(call: Call) -> Protocol[None]:
    yield Await(call.ended, idle=True)


def replay(site: Site, done: Done, decode: Callable[[bytes], T]) -> Course[T]:
    """The recorded result, counted as replayed once it is there."""
    try:
        data: bytes = yield Perform(site.attempt.fetch(done))
        with placed(site.attempt.run_id, site.slot):
            value = decode(data)
        site.attempt.count_replay(done)
        site.attempt.journal.replayed(site.call)
    finally:
        site.attempt.journal.end(site.call)
    return value


def _execute(plan: Plan) -> Flow[Any]:
    attempt, journal = plan.attempt, plan.attempt.journal
    try:
        if plan.step.approve:
            yield from approved(plan)
        journal.executes(plan.call)
        bought = yield from buy(plan)
        began, inside = attempt.now_ms(), Scope(plan.slot)
        outcome = yield Invoke(plan.function, inside=functools.partial(current.at, attempt, inside))
        ms = attempt.now_ms() - began
        entries = rolled_up(attempt.money, bought, ms) if bought is not None and inside.encloses else ()
        if isinstance(outcome, Raised):
            if isinstance(outcome.error, RunMisuse) and outcome.error.args == (ASYNC_IN_BLOCKING,):
                place(outcome.error, attempt.run_id, plan.slot)
            yield from note_failure(plan, outcome.error, ms, entries)
            return outcome
        if bought is not None and not entries:
            entries = (_paid(plan, bought, outcome.value, ms),)
        return (yield from keep(plan, outcome, ms, entries))
    finally:
        journal.end(plan.call)


def approved(plan: Plan) -> Course[None]:
    """Returns once somebody has approved of the call. Raises ``NotApproved``, ``Suspended``."""
    from agentcheckpoint.approving import ask_first  # it stands on the waits, which are steps

    yield from ask_first(plan)


def keep(plan: Plan, outcome: Returned, ms: int, entries: tuple[LedgerEntry, ...]) -> Flow[Any]:
    """Commits the result; what is refused or cannot be stored is booked as wasted, and its error carries it."""
    try:
        data, value = plan.type.encode(outcome.value)
    except ResultNotStorable as exc:
        yield from note_failure(plan, place(exc, plan.attempt.run_id, plan.slot), ms, entries)
        return Raised(exc)
    refusal = _refusal(plan, value)
    if refusal is not None:
        yield from note_failure(plan, refusal, ms, entries)
        return Raised(refusal)
    stored = yield from keep_result(plan, plan.call.inputs, data, ms, entries, value)
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


def note_failure(plan: Site, error: BaseException, ms: int, entries: tuple[LedgerEntry, ...]) -> Course[None]:
    """Stores a failed attempt. An interrupt or a cancellation is none; and no trouble here hides the error itself."""
    attempt = plan.attempt
    if not isinstance(error, Exception):
        return
    failed = Failed(
        id=new_id(),
        at=attempt.now_ms(),
        slot=plan.slot,
        kind=plan.kind,
        error=failure(error),
        ms=ms,
        entries=tuple(as_waste(entries)),
    )
    try:
        yield Perform(attempt.commit(Change(failed), plan.call))
    except AgentCheckpointError as trouble:
        error.add_note(f"agentcheckpoint could not store this failed attempt: {trouble}")


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
    why = "its accept= said no"
    try:
        if plan.step.accept(value):
            return None
    except Exception as exc:
        why = f"its accept= raised {type(exc).__name__}: {exc}"
    return StepRejected(
        f"run {plan.attempt.run_id!r}, step {plan.slot!r}: {why}. The answer is booked as wasted and is in this "
        "error's `value`; the step runs again when it is called again.",
        run_id=plan.attempt.run_id,
        step=plan.slot,
        value=value,
    )

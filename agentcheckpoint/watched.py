"""The course of a Redis transaction: read under WATCH, then the user's commands and the checkpoint in one EXEC."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentcheckpoint import current
from agentcheckpoint.attempt import new_id, new_token
from agentcheckpoint.core.models import Rejected
from agentcheckpoint.errors import CheckpointCorrupt, RunMisuse, StoreUnavailable
from agentcheckpoint.explain import place, placed
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, Course, Flow, Invoke, Perform, Raised, Returned
from agentcheckpoint.once import clear_up, intend
from agentcheckpoint.steps import Plan, decide, replay
from agentcheckpoint.store.changes import Beside, Change, Outdated
from agentcheckpoint.store.watching import watch_head
from agentcheckpoint.transaction import AsyncTransaction, Transaction
from agentcheckpoint.trying import Tried, examine, keep, note_failure, record_of, store_record

TRIES = 16
"""How often the function is called while others change what it has read."""
SEALED = (
    "it may be called again, and its transaction refused: what a step in it recorded would stay. Call that step "
    "before it."
)
"""Why no step is called inside a transaction."""


@dataclass(frozen=True, slots=True)
class Work:
    """A call of a Redis transaction: its plan, its function, which takes the transaction first, and its colour."""

    plan: Plan
    function: Callable[..., Any]
    is_async: bool


def transaction_flow(work: Work) -> Flow[Any]:
    """Replays the step, or calls the function until what it rests on stays as it was read.

    Raises:
        StoreUnavailable: that never came to be.
        CheckpointCorrupt: the server refused some of the commands and applied the others.
    """
    plan = work.plan
    done = yield from decide(plan)
    if done is not None:
        return (yield from replay(plan, done, plan.type.decode))
    try:
        plan.attempt.journal.executes(plan.call)
        known = yield from clear_up(plan)
        if known is not None:
            tried = Tried(known, 0, ()) if isinstance(known, Raised) else examine(plan, known.value, 0, ())
            return (yield from keep(plan, tried))
        trouble = Outdated()
        for _ in range(TRIES):
            try:
                return (yield from _try(work))
            except Outdated as exc:
                trouble = exc
        raise StoreUnavailable(
            f"run {plan.attempt.run_id!r}, step {plan.slot!r}: its transaction was refused {TRIES} times: {trouble}. "
            "Nothing of it was applied. Do others write these keys all the time? Read fewer of them.",
            run_id=plan.attempt.run_id,
            step=plan.slot,
        )
    finally:
        plan.attempt.journal.end(plan.call)


def _try(work: Work) -> Flow[Any]:
    """One call of the function. Raises ``Outdated``: nothing was applied."""
    attempt, plan = work.plan.attempt, work.plan
    attempt.check_time()
    tx = (AsyncTransaction if work.is_async else Transaction)(attempt, plan.slot)
    try:
        outcome = yield from _transact(work, tx)
    except GeneratorExit:
        raise
    except BaseException:
        yield from _hang_up(tx)
        raise
    yield from _hang_up(tx)
    return outcome


def _hang_up(tx: Transaction | AsyncTransaction) -> Course[None]:
    for wire in tx.line.wires:
        yield Invoke(wire.close)


def _transact(work: Work, tx: Transaction | AsyncTransaction) -> Flow[Any]:
    attempt, plan = work.plan.attempt, work.plan
    tx.is_cluster = yield Perform(watch_head(attempt.fence, tx.line, new_token, plan.slot))
    tx.token = attempt.fence.token
    began, inside = attempt.now_ms(), plan.inside()
    inside.sealed = SEALED
    function = functools.partial(work.function, tx, *plan.arguments[0][1:], **plan.arguments[1])
    outcome = yield Invoke(function, inside=functools.partial(current.at, attempt, inside))
    ms = attempt.now_ms() - began
    if tx.broken is not None:
        outcome = _over_broken(tx.broken, outcome)
    tried = examine(plan, outcome.value, ms, ()) if isinstance(outcome, Returned) else Tried(outcome, ms, ())
    if isinstance(tried.outcome, Raised):
        _place_colour(plan, tried.outcome.error)
        yield from note_failure(plan, tried.outcome.error, ms, ())
        return tried.outcome
    return (yield from _commit(plan, tx, tried, tried.outcome.value))


def _over_broken(broken: Exception, outcome: Returned | Raised) -> Raised:
    """What comes of a function one of whose reads has failed. Raises ``Outdated``: it is to be called again."""
    if isinstance(outcome, Raised) and not isinstance(outcome.error, Exception):
        return outcome
    if isinstance(broken, StoreUnavailable):  # the connection is gone, and what it watched with it
        raise Outdated(str(broken.__cause__))
    return outcome if isinstance(outcome, Raised) else Raised(broken)


def _place_colour(plan: Plan, error: BaseException) -> None:
    if isinstance(error, RunMisuse) and error.args == (ASYNC_IN_BLOCKING,):
        place(error, plan.attempt.run_id, plan.slot)


def _commit(plan: Plan, tx: Transaction | AsyncTransaction, tried: Tried, value: object) -> Course[Any]:
    done, payload = record_of(plan, plan.call.inputs, tried.data, tried.ms)
    beside = Beside(tuple(tx.queued), tx.line, tx.token)
    theirs = yield from store_record(plan, done, payload, value, beside)
    if beside.refused:
        raise (yield from _torn(plan, done.id, beside, value))
    plan.attempt.check_stop()
    with placed(plan.attempt.run_id, plan.slot):
        return value if theirs is None else plan.type.decode(theirs)


def _torn(plan: Plan, entry_id: str, beside: Beside, value: object) -> Course[CheckpointCorrupt]:
    """Some commands were refused inside the EXEC, which takes nothing back: the step is neither done nor to be done
    again, until somebody has said which."""
    attempt = plan.attempt
    refused = "; ".join(f"{' '.join(map(str, command[:2]))}: {why}" for command, why in beside.refused)
    rejected = Rejected(id=new_id(), at=attempt.now_ms(), slot=plan.slot, target=entry_id, why=refused[:500])
    yield Perform(attempt.commit(Change(rejected), plan.call))
    attempt.journal.reject(plan.slot, entry_id)
    yield from intend(plan, ())
    return CheckpointCorrupt(
        f"run {attempt.run_id!r}, step {plan.slot!r}: the server refused {len(beside.refused)} of the "
        f"{len(beside.commands)} commands of its transaction, and has applied the others: Redis takes nothing back. "
        f"{refused}. Mend the data; the step is in doubt, and the run waits for your answer whether to call it again.",
        run_id=attempt.run_id,
        step=plan.slot,
        value=value,
    )

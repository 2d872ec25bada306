"""The course of a SQL step: ask Redis, then the database; else do the work and record it in one transaction there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentcheckpoint import current
from agentcheckpoint.core.models import Done
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.explain import place, placed
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, Course, Flow, Invoke, Raised
from agentcheckpoint.sql.databases import Database
from agentcheckpoint.sql.rows import FIND, FORGET, RECORD, Place, parse_row
from agentcheckpoint.steps import Plan, decide, replay
from agentcheckpoint.trying import examine, note_failure, record_of, store_record

SEALED = (
    "its transaction is open, and may yet be rolled back: what a step in it recorded would stay. Call that step before "
    "it, and give its result to this one."
)
"""Why no step is called inside a transaction."""


@dataclass(frozen=True, slots=True)
class SqlStep:
    """A call of a SQL step.

    Attributes:
        plan: the call; its function takes the connection already.
        database: where its transaction takes place.
        finishes: its result is the run's output.
    """

    plan: Plan
    database: Database
    finishes: bool = False


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What is committed in the database."""

    done: Done
    result: bytes


def sql_flow(step: SqlStep) -> Flow[Any]:
    """Replays the step, or does its work in a transaction that records it.

    Returns the result as it will be on every replay. What the function or the database raises is raised unchanged,
    after a rollback.
    """
    plan = step.plan
    done = yield from decide(plan)
    if done is not None:
        return _finish(step, (yield from replay(plan, done, plan.type.decode)))
    try:
        plan.attempt.journal.executes(plan.call)
        began = plan.attempt.now_ms()
        recorded = yield from _transact(step)
        if isinstance(recorded, Raised):
            yield from note_failure(plan, recorded.error, plan.attempt.now_ms() - began, ())
            return recorded
        value = _decode(plan, recorded)
        theirs = yield from store_record(plan, recorded.done, recorded.result, value)
        with placed(plan.attempt.run_id, plan.slot):
            value = _finish(step, value if theirs is None else plan.type.decode(theirs))
        plan.attempt.check_stop()
        return value
    finally:
        plan.attempt.journal.end(plan.call)


def _finish(step: SqlStep, value: Any) -> Any:
    if step.finishes:
        step.plan.attempt.output, _ = step.plan.type.encode(value)
    return value


def _decode(plan: Plan, recorded: _Recorded) -> Any:
    done = recorded.done
    data = plan.attempt.chain.decode(recorded.result, done.payload, plan.attempt.where(done.slot, done.id))
    with placed(plan.attempt.run_id, plan.slot):
        return plan.type.decode(data)


def _transact(step: SqlStep) -> Course[_Recorded | Raised]:
    """The transaction: nothing of it stays, or all with its record."""
    database = step.database
    mine: Done | None = None
    try:
        yield from _ask(database.begin)
        found = yield from _look(step)
        if found is not None:
            yield from _ask(database.rollback)
            return found
        outcome = yield from _work(step)
        if isinstance(outcome, Raised):
            yield from _roll_back(database, outcome.error)
            return outcome
        mine = outcome.done
        yield from _write(step, outcome)
        yield from _ask(database.commit)
        return outcome
    except GeneratorExit:
        raise
    except BaseException as exc:
        yield from _roll_back(database, exc)
        found = (yield from _landed(step)) if mine is not None and isinstance(exc, Exception) else None
        return found if found is not None else Raised(exc)


def _look(step: SqlStep) -> Course[_Recorded | None]:
    """What another worker, or this one before it died, has committed. Raises ``StepMismatch``."""
    plan, where = step.plan, _place(step.plan)
    rows = yield from _ask(functools.partial(step.database.execute, FIND, where.values()))
    found = parse_row(where, rows)
    if found is None:
        return None
    done, result = found
    call = plan.call
    replaced = call.mismatch or call.stale
    if replaced is not None and replaced.id == done.id:  # it was decided by its record in Redis
        return None
    is_same = done.inputs.digest == call.inputs.digest
    call.found, call.mismatch = (done, None) if is_same else (None, done)
    if plan.attempt.decide(call, plan.step, plan.name) is None:  # it is to be done again
        return None
    return _Recorded(done, result)


def _work(step: SqlStep) -> Course[_Recorded | Raised]:
    """Calls the function inside the transaction. Its result is examined before anything is committed."""
    plan = step.plan
    plan.attempt.check_time()
    began, inside = plan.attempt.now_ms(), plan.inside()
    inside.sealed = SEALED
    outcome = yield Invoke(plan.function, inside=functools.partial(current.at, plan.attempt, inside))
    if isinstance(outcome, Raised):
        if isinstance(outcome.error, RunMisuse) and outcome.error.args == (ASYNC_IN_BLOCKING,):
            place(outcome.error, plan.attempt.run_id, plan.slot)
        return outcome
    tried = examine(plan, outcome.value, plan.attempt.now_ms() - began, ())
    if isinstance(tried.outcome, Raised):
        return tried.outcome
    return _Recorded(*record_of(plan, plan.call.inputs, tried.data, tried.ms))


def _write(step: SqlStep, recorded: _Recorded) -> Course[None]:
    """The row. Where another worker has committed the step meanwhile, the primary key refuses it."""
    plan, database = step.plan, step.database
    plan.attempt.check()
    if not database.busy():
        raise RunMisuse(
            f"run {plan.attempt.run_id!r}, step {plan.slot!r}: {plan.name} has ended the transaction itself, so what "
            "it did and the step's record cannot be committed together. Leave commit and rollback to run.sql_step.",
            run_id=plan.attempt.run_id,
            step=plan.slot,
        )
    where = _place(plan)
    if plan.call.mismatch is not None or plan.call.stale is not None:  # the row that stands there counts no more
        yield from _ask(functools.partial(database.execute, FORGET, where.values()))
    row = where.row(recorded.done, recorded.result, plan.attempt.fence.token)
    yield from _ask(functools.partial(database.execute, RECORD, row))


def _landed(step: SqlStep) -> Course[_Recorded | None]:
    """After a commit that failed: another worker's record, or one's own if only the reply was lost."""
    try:
        yield from _ask(step.database.begin)
        try:
            return (yield from _look(step))
        finally:
            yield from _ask(step.database.rollback)
    except Exception:  # the database is not there to be asked: the error of the commit says why
        return None


def _place(plan: Plan) -> Place:
    attempt = plan.attempt
    return Place(attempt.namespace, attempt.run_id, attempt.birth, plan.slot)


def _roll_back(database: Database, why: BaseException) -> Course[None]:
    try:
        yield from _ask(database.rollback)
    except Exception as trouble:  # a connection that is gone has rolled back
        why.add_note(f"agentcheckpoint could not roll the transaction back: {trouble}")


def _ask(verb: Callable[[], Any]) -> Course[Any]:
    """What the database answers, in either colour."""
    outcome = yield Invoke(verb)
    if isinstance(outcome, Raised):
        raise outcome.error
    return outcome.value

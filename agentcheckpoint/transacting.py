"""``run.transaction``, ``run.sql_step`` and ``run.sql_finish`` of both faces. They hold no rule."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.face import RunBase
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, run_flow, run_flow_async
from agentcheckpoint.once import refuse_options
from agentcheckpoint.options import Step, as_step, refuse_approval
from agentcheckpoint.steps import Plan, plan_step
from agentcheckpoint.transaction import AsyncTransaction, Transaction
from agentcheckpoint.watched import Work, transaction_flow

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")


class BlockingTransactions(RunBase):
    """The transactional steps of a blocking run."""

    def transaction(
        self, step: str | Step, fn: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Runs ``fn(tx, *args, **kwargs)`` as a step whose own Redis commands are applied in its checkpoint's EXEC.

        What it reads by ``tx.read`` is watched: if somebody changes it meanwhile, nothing is applied and ``fn`` is
        called again. What it gives to ``tx.queue`` is applied with the checkpoint, once, or not at all. A worker that
        has lost the run applies nothing.

        Args:
            step: its name, or ``Step(name, ...)``.
            fn: reads, queues, and returns the step's result; nothing else that should not happen again. No step may be
                called in it.

        Raises:
            StoreUnavailable: others changed what it reads each time, or the server is away. Nothing was applied.
            CheckpointCorrupt: the server refused some commands and applied the others; the step is in doubt then.
            LeaseLost, CommitUnknown, StoreRefused, StepMismatch: as of ``step``.
        """
        if inspect.iscoroutinefunction(fn):
            named = as_step(step).name
            raise RunMisuse(f"run {self.id!r}, step {named!r}: {ASYNC_IN_BLOCKING}", run_id=self.id, step=named)
        work = plan_watched(self._attempt, as_step(step), fn, args, kwargs, is_async=False)
        assert self._attempt.store is not None
        return cast(R, run_flow(self._attempt.store, transaction_flow(work)))

    def sql_step(
        self, step: str | Step, connection: C, fn: Callable[Concatenate[C, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Runs ``fn(connection, *args, **kwargs)`` as a step that is recorded in the very transaction of its work.

        The transaction is begun, and committed or rolled back, here; ``fn`` does neither. If it commits, the step is
        done, whatever happens to Redis; if it rolls back, nothing is. The table is made by ``sql.create_table``.

        Args:
            step: its name, or ``Step(name, ...)``.
            connection: of sqlite3 or psycopg 3, or a connection or session of SQLAlchemy 2; no transaction is open on
                it.
            fn: the work. No step may be called in it.

        Raises:
            RunMisuse: a transaction is open on the connection, or ``fn`` has ended it, or called a step.
            StepMismatch: recorded with other inputs, in Redis or in the database.
            LeaseLost, CommitUnknown, StoreError: the transaction is committed, its record in Redis is not: opening the
                run again finds it in the database.
            Exception: whatever ``fn`` or the database raises, unchanged, after a rollback.
        """
        return cast(R, self._transact(as_step(step), connection, fn, args, kwargs))

    def sql_finish(
        self, step: str | Step, connection: C, fn: Callable[Concatenate[C, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Like ``sql_step``, and its result is the run's output: if the transaction commits, the output is decided.

        It is stored, and the run completed, when the ``with`` is left normally.
        """
        return cast(R, self._transact(as_step(step), connection, fn, args, kwargs, finishes=True))

    def _transact(
        self, step: Step, connection: object, fn: Callable[..., Any], args: Any, kwargs: Any, *, finishes: bool = False
    ) -> Any:
        from agentcheckpoint.sql.stepping import SqlStep, sql_flow
        from agentcheckpoint.sql.table import idle

        database = idle(connection)
        if database.is_async or inspect.iscoroutinefunction(fn):
            raise RunMisuse(f"run {self.id!r}, step {step.name!r}: {ASYNC_IN_BLOCKING}", run_id=self.id, step=step.name)
        if self._attempt.store is None:
            database.begin()
            try:
                value = fn(connection, *args, **kwargs)
                database.commit()
            except BaseException:
                database.rollback()
                raise
            return value
        plan = plan_transaction(self._attempt, step, fn, connection, args, kwargs)
        return run_flow(self._attempt.store, sql_flow(SqlStep(plan, database, finishes)))


class AsyncTransactions(RunBase):
    """The transactional steps of a run on an event loop."""

    def transaction(
        self,
        step: str | Step,
        fn: Callable[Concatenate[AsyncTransaction, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]:
        """Runs ``await fn(tx, ...)`` as a step with its own Redis commands in its EXEC; see ``Run.transaction``."""
        work = plan_watched(self._attempt, as_step(step), fn, args, kwargs, is_async=True)
        assert self._attempt.store is not None
        return run_flow_async(self._attempt.store, transaction_flow(work))

    @overload
    def sql_step(
        self,
        step: str | Step,
        connection: C,
        fn: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def sql_step(
        self, step: str | Step, connection: C, fn: Callable[Concatenate[C, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def sql_step(
        self, step: str | Step, connection: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """Runs ``fn(connection, ...)`` as a step recorded in the transaction of its work; see ``Run.sql_step``.

        The connection may be async or blocking; a blocking one holds up the event loop.
        """
        return self._transact(as_step(step), connection, fn, args, kwargs)

    @overload
    def sql_finish(
        self,
        step: str | Step,
        connection: C,
        fn: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def sql_finish(
        self, step: str | Step, connection: C, fn: Callable[Concatenate[C, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def sql_finish(
        self, step: str | Step, connection: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """Like ``sql_step``, and its result is the run's output; see ``Run.sql_finish``."""
        return self._transact(as_step(step), connection, fn, args, kwargs, finishes=True)

    def _transact(
        self, step: Step, connection: object, fn: Callable[..., Any], args: Any, kwargs: Any, *, finishes: bool = False
    ) -> Coroutine[Any, Any, Any]:
        from agentcheckpoint.sql.stepping import SqlStep, sql_flow
        from agentcheckpoint.sql.table import idle

        database = idle(connection)
        if self._attempt.store is None:
            return _bare(database, functools.partial(fn, connection, *args, **kwargs))
        plan = plan_transaction(self._attempt, step, fn, connection, args, kwargs)
        return run_flow_async(self._attempt.store, sql_flow(SqlStep(plan, database, finishes)))


async def _bare(database: Any, work: Callable[[], Any]) -> Any:
    """The transaction alone, where the library is switched off."""
    await _awaited(database.begin())
    try:
        value = await _awaited(work())
        await _awaited(database.commit())
    except BaseException:
        await _awaited(database.rollback())
        raise
    return value


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def plan_transaction(
    attempt: Attempt, step: Step, fn: Callable[..., Any], through: object, args: Any, kwargs: Mapping[str, Any]
) -> Plan:
    """Takes the step's slot. What the function is handed to work ``through`` is no input of it.

    Raises:
        RunMisuse: an option that makes no sense here.
    """
    refuse_options(attempt, step, "a transaction happens once as it is, and is not cut off")
    refuse_approval(step, "ask with run.wait_for, before")
    if step.retry is not None or step.cost is not None or step.max_cost is not None:
        raise RunMisuse(
            f"run {attempt.run_id!r}, step {step.name!r}: a transaction takes no retry=, cost= or max_cost=: call what "
            "is paid or tried again as a step before it, and give its result to this one.",
            run_id=attempt.run_id,
            step=step.name,
        )
    first = next(iter(inspect.signature(fn).parameters), None)
    ignored = step if first is None else replace(step, ignore=(*step.ignore, first))
    return plan_step(attempt, ignored, "step", fn, (through, *args), kwargs)


def plan_watched(
    attempt: Attempt, step: Step, fn: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], *, is_async: bool
) -> Work:
    """Takes the slot of a Redis transaction.

    Raises:
        RunMisuse: the library is switched off: there is no server.
    """
    if attempt.store is None:
        raise RunMisuse(f"step {step.name!r}: AGENTCHECKPOINT=off, and a transaction in Redis needs it", step=step.name)
    plan = plan_transaction(attempt, step, fn, None, args, kwargs)
    plan.step = replace(plan.step, effect="once")  # where the server applies a part, it is in doubt
    return Work(plan, fn, is_async)

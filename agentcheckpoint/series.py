"""Attempt after attempt of a run, as its policy says: ``ac.attempts``, and the calls of a decorated agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.calling import AgentCall
from agentcheckpoint.core import ids
from agentcheckpoint.errors import RunBusy, RunMisuse
from agentcheckpoint.flow import run_flow, run_flow_async
from agentcheckpoint.options import RunKeywords, RunOptions, run_options
from agentcheckpoint.retries.policy import Again, Retry
from agentcheckpoint.retrying import before_sleep_flow, fallback_flow, has_fallback, read_rest
from agentcheckpoint.runs import Opener, Run
from agentcheckpoint.store.connect import Connectable, connect, switched_off
from agentcheckpoint.store.store import Store
from agentcheckpoint.taking import AlreadyCompleted

if TYPE_CHECKING:
    from agentcheckpoint.aio import AsyncRun

POLL = 0.5
"""Seconds between two looks at a run that another worker is at."""


class Try:
    """One attempt of a series, to be entered like ``ac.run(...)``: an error that is to be tried again ends in it.

    Args:
        attempt: the attempt itself.
        wait: seconds to wait for another worker.
        is_single: its error is raised, whatever the policy says of it.
        has_caller: its last error ends in it too, if the policy has a value of its own: somebody is there to get that.
    """

    def __init__(
        self, attempt: Attempt, *, wait: float = 0.0, is_single: bool = False, has_caller: bool = False
    ) -> None:
        self.attempt = attempt
        self.entered = False
        self._opener = Opener(attempt, wait)
        self._is_single, self._has_caller = is_single, has_caller

    @property
    def again(self) -> Again | None:
        """When the next attempt is due; ``None``: there is none."""
        decision = self.attempt.decision
        return decision if isinstance(decision, Again) else None

    def __enter__(self) -> Run:
        run = self._opener.__enter__()
        self.entered = True
        return run

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        self._opener.__exit__(kind, error, trace)
        return self._is_taken(error)

    async def __aenter__(self) -> AsyncRun:
        run = await self._opener.__aenter__()
        self.entered = True
        return run

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        await self._opener.__aexit__(kind, error, trace)
        return self._is_taken(error)

    def _is_taken(self, error: BaseException | None) -> bool:
        if error is None or self._is_single:
            return False
        return self.again is not None or (self._has_caller and has_fallback(self.attempt))


class _Series:
    """The attempts of one run in this process."""

    def __init__(self, store: Store | None, run_id: str, options: RunOptions) -> None:
        self.store, self.run_id, self.options = store, run_id, options
        self._failed = 0

    def next(self, *, wait: float = 0.0, is_single: bool = False, has_caller: bool = False) -> Try:
        """The next attempt, ready to be entered; see ``Try``."""
        attempt = Attempt(self.store, self.run_id, self.options)
        attempt.failed_before = self._failed
        return Try(attempt, wait=wait, is_single=is_single, has_caller=has_caller)

    def left(self, one: Try) -> None:
        """An attempt was left, and another follows: of the run that there is now, however the first was opened."""
        self.options = replace(self.options, on_existing="allow")
        self._failed = max(one.attempt.series.failed, self._failed) + 1


class Attempts:
    """What ``ac.attempts(...)`` returns: iterate over it, with ``for`` or ``async for``."""

    def __init__(self, run_id: str, store: Store | None, options: RunOptions) -> None:
        self._series, self._wait = _Series(store, run_id, options), options.wait

    def __iter__(self) -> Iterator[Try]:
        series = self._series
        rest = 0.0 if series.store is None else series.store.run(read_rest(series.next().attempt))
        while True:
            time.sleep(rest)
            one = series.next(wait=self._wait)
            yield one
            self._check(one)
            if one.again is None or series.store is None:
                return
            run_flow(series.store, before_sleep_flow(one.attempt))
            series.left(one)
            rest = one.again.wait

    async def __aiter__(self) -> AsyncIterator[Try]:
        series = self._series
        rest = 0.0 if series.store is None else await series.store.run_async(read_rest(series.next().attempt))
        while True:
            await asyncio.sleep(rest)
            one = series.next(wait=self._wait)
            yield one
            self._check(one)
            if one.again is None or series.store is None:
                return
            await run_flow_async(series.store, before_sleep_flow(one.attempt))
            series.left(one)
            rest = one.again.wait

    def _check(self, one: Try) -> None:
        if not one.entered:
            raise RunMisuse(
                f"run {self._series.run_id!r}: an attempt was not entered. Write `for attempt in ac.attempts(...):` "
                "and then `with attempt as run:` (on an event loop both with async).",
                run_id=self._series.run_id,
            )


def attempts(id: str, /, *, retry: Retry, store: Connectable = None, **options: Unpack[RunKeywords]) -> Attempts:
    """Attempt after attempt of a run, as a policy of tenacity's says.

    Write ``for attempt in ac.attempts("r-42", retry=Retrying(...)):`` and in it ``with attempt as run:``; or both with
    ``async``. An error that the policy retries ends in the ``with``; the last one is raised unchanged. What is recorded
    is replayed by each attempt. The number of attempts, the time since the first and the wait before the next are
    stored with the run: another process goes on with the back-off where this one was. A run that the policy gives up
    is ``failed``. With ``AGENTCHECKPOINT=off`` there is one attempt.

    Args:
        id: the run's name.
        retry: any policy: ``tenacity.Retrying(...)``, ``AsyncRetrying(...)``, or a function with one.
        store: as in ``ac.run``.
        options: as in ``ac.run``.

    Raises:
        InvalidName, RunMisuse: before anything is sent.
        Exception: what opening the run raises is not tried again; and the last error.
    """
    ids.check_run_id(id)
    where = None if switched_off() else connect(store)
    return Attempts(id, where, replace(run_options(options), retry=retry))


def answer(call: AgentCall, *, once: bool = False) -> Any:
    """The run of the call: begun, gone on with, or its stored output. Waits for another worker as the options say.

    Args:
        call: what is called.
        once: make one attempt, whatever the policy says of its end.
    """
    store = connect(call.store)
    deadline, series = time.monotonic() + call.options.wait, _Series(store, call.run_id, call.options)
    while True:
        data, rest = store.run(call.recorded())
        if data is not None:
            return call.output(data)
        time.sleep(0.0 if once else rest)
        one = series.next(is_single=once, has_caller=True)
        with ExitStack() as stack:
            try:
                run = stack.enter_context(one)
            except AlreadyCompleted:  # by somebody who was faster: his output answers the call, if it can
                series.options = (call := call.whatever_stands()).options
                continue
            except RunBusy:
                if time.monotonic() >= deadline:
                    raise
            else:
                return run.finish(call.function(), returns=call.returns)
        if not one.entered:
            time.sleep(POLL)
        elif one.again is None:
            return run_flow(store, fallback_flow(one.attempt))
        else:
            run_flow(store, before_sleep_flow(one.attempt))
            series.left(one)


async def answer_async(call: AgentCall, *, once: bool = False) -> Any:
    """The same on an event loop."""
    store = connect(call.store)
    deadline, series = time.monotonic() + call.options.wait, _Series(store, call.run_id, call.options)
    while True:
        data, rest = await store.run_async(call.recorded())
        if data is not None:
            return call.output(data)
        await asyncio.sleep(0.0 if once else rest)
        one = series.next(is_single=once, has_caller=True)
        async with AsyncExitStack() as stack:
            try:
                run = await stack.enter_async_context(one)
            except AlreadyCompleted:  # by somebody who was faster: his output answers the call, if it can
                series.options = (call := call.whatever_stands()).options
                continue
            except RunBusy:
                if time.monotonic() >= deadline:
                    raise
            else:
                return run.finish(await call.function(), returns=call.returns)
        if not one.entered:
            await asyncio.sleep(POLL)
        elif one.again is None:
            return await run_flow_async(store, fallback_flow(one.attempt))
        else:
            await run_flow_async(store, before_sleep_flow(one.attempt))
            series.left(one)

"""A decorated agent: a function that is a run. Named, it is started, resumed, or its stored output returned."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast

from agentcheckpoint.attempt import LEASE, Attempt
from agentcheckpoint.core.budget import Budget
from agentcheckpoint.core.codec import UNANNOTATED, ResultType, annotation_of, result_type
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.core.ids import check_name, check_tags
from agentcheckpoint.core.models import Closed, Inputs, Opened
from agentcheckpoint.errors import RunBusy, RunNotFound, StepMismatch
from agentcheckpoint.explain import input_mismatch, placed
from agentcheckpoint.options import OnMismatch, check_policy, check_seconds
from agentcheckpoint.recipe import check_function, default_name, is_async, mark_async
from agentcheckpoint.results import revive
from agentcheckpoint.runs import Opener, open_run_for
from agentcheckpoint.store.connect import Connectable, connect, switched_off
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.reading import read_results, snapshot
from agentcheckpoint.store.store import Store

P = ParamSpec("P")
R = TypeVar("R")

POLL = 0.5
"""Seconds between two looks at a run that another worker is at."""


class Agent(Generic[P, R]):
    """A function each call of which is a run; made by ``@ac.agent``."""

    __wrapped__: Callable[..., Any]
    __name__: str

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str | None,
        on_mismatch: OnMismatch,
        returns: Any,
        budget: Budget | Sequence[Budget],
        tags: Iterable[str],
    ) -> None:
        check_function(fn, returns)
        functools.update_wrapper(self, fn)
        self._fn = fn
        self.name = check_name(default_name(fn, name))
        self._is_async = is_async(fn)
        if self._is_async:
            mark_async(self)
        self._on_mismatch: OnMismatch = check_policy(on_mismatch)
        self._returns = returns
        self._budget = budget
        self._tags = check_tags(tags)
        self._store: Connectable = None
        self._namespace = "default"
        self._wait = 0.0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """A new run with a generated id.

        It replays nothing and cannot be resumed. Inside another run, give it an id, or make it a step of that run.
        """
        return cast(R, self._start(None, args, kwargs))

    def run(self, id: str, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The run of that name: starts it, goes on with it, or, once it is completed, returns its stored output.

        Args:
            id: the run's name. The function's own arguments follow.

        Returns:
            What the function returns; of an async one, a coroutine. A completed run is not claimed, and the function
            is not called.

        Raises:
            StepMismatch: the run was started with other arguments, or by another agent.
            ResultNotStorable: what the function returned would not come back as it went; it is in ``value``.
            Exception: what ``ac.run`` and the function raise.
        """
        return cast(R, self._start(id, args, kwargs))

    def using(
        self,
        *,
        store: Connectable = None,
        namespace: str | None = None,
        wait: float | None = None,
        budget: Budget | Sequence[Budget] | None = None,
    ) -> Self:
        """The same agent, whose runs are kept elsewhere or may pay more; what is not given stays as it was.

        Args:
            store: as in ``ac.run``.
            namespace: as in ``ac.run``.
            wait: seconds to wait for another worker that is at the run, before ``RunBusy``. If it completes the run
                meanwhile, its output is returned.
            budget: as in ``ac.run``.
        """
        if wait is not None:
            check_seconds("wait", wait, 0, math.inf)
        other = copy.copy(self)
        other._store = self._store if store is None else store
        other._namespace = self._namespace if namespace is None else namespace
        other._wait = self._wait if wait is None else wait
        other._budget = self._budget if budget is None else budget
        return other

    def __repr__(self) -> str:
        return f"<agent {self.name!r}>"

    def _start(self, run_id: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if switched_off():
            return self._fn(*args, **kwargs)
        inspect.signature(self._fn).bind(*args, **kwargs)  # a call that cannot be made leaves no run behind
        returns = annotation_of(self._fn) if self._returns is UNANNOTATED else self._returns
        if returns is UNANNOTATED:
            returns = Any  # plain JSON: the type of today's value would not be known when its output is read
        call = _Call(
            run_id=run_id,
            agent=self.name,
            inputs=function_inputs(self._fn, args, kwargs),
            function=functools.partial(self._fn, *args, **kwargs),
            returns=returns,
            type=result_type(returns),
            store=self._store,
            namespace=self._namespace,
            wait=self._wait,
            on_mismatch=self._on_mismatch,
            budget=self._budget,
            tags=self._tags,
        )
        return _answer_async(call) if self._is_async else _answer(call)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of an agent, with all that is known before it runs."""

    run_id: str | None
    agent: str
    inputs: Inputs
    function: Callable[[], Any]
    returns: Any
    type: ResultType[Any]
    store: Connectable
    namespace: str
    wait: float
    on_mismatch: OnMismatch
    budget: Budget | Sequence[Budget]
    tags: tuple[str, ...]

    def opener(self, store: Store) -> Opener:
        """The run, ready to be entered; it does not wait."""
        return open_run_for(
            self.run_id,
            store,
            self.namespace,
            0.0,
            self.on_mismatch,
            LEASE,
            self.agent,
            self.inputs,
            self.budget,
            self.tags,
        )

    def output(self, data: bytes) -> Any:
        """The recorded output, in type."""
        with placed(str(self.run_id)):
            return self.type.decode(data)

    def recorded(self) -> Protocol[bytes | None]:
        """The output of the run, if it is completed and has one that answers this call.

        Raises:
            StepMismatch: what is recorded answers another call.
        """
        if self.run_id is None:
            return None
        try:
            return (yield from self._read(Attempt(None, self.run_id, self.namespace)))
        except RunNotFound:  # if it was deleted, opening it will say so
            return None

    def _read(self, attempt: Attempt) -> Protocol[bytes | None]:
        loaded = yield from snapshot(attempt.fence)
        opened, closed = _deciding(loaded)
        if opened is None or opened.inputs is None or not self._answered_by(opened.agent, opened.inputs):
            return None
        if closed is None or closed.output is None:
            return None
        found = yield from read_results(attempt.fence, loaded.token, (closed.id,))
        return revive(attempt.chain, found[closed.id], closed.output, attempt.where("", closed.id))

    def _answered_by(self, agent: str | None, inputs: Inputs) -> bool:
        same = agent == self.agent and inputs.digest == self.inputs.digest
        if same or self.on_mismatch != "error":
            return same or self.on_mismatch == "reuse"
        run_id = str(self.run_id)
        if agent == self.agent:
            raise input_mismatch(run_id, agent, inputs, self.inputs)
        raise StepMismatch(
            f"run {run_id!r}: it was started by agent {agent!r}, and is called as a run of agent {self.agent!r}. A run "
            f"belongs to one agent: use another id; or, if the function was renamed, @ac.agent(name={agent!r}).",
            run_id=run_id,
        )


def _deciding(loaded: Loaded) -> tuple[Opened | None, Closed | None]:
    """How the run was started, and how it was completed; ``None``: it is not, or not by an agent."""
    started = opened = by = ended = None
    for entry in loaded.entries:
        if isinstance(entry, Opened):
            opened = entry
            if started is None and entry.inputs is not None:  # the first says what the run is about
                started = entry
        elif isinstance(entry, Closed):
            ended, by = entry, opened
    # A step committed since the last end makes the run's state something else than completed.
    if ended is None or by is None or by.inputs is None or loaded.meta["state"] != "completed":
        return started, None
    return by, ended


def _answer(call: _Call) -> Any:
    store = connect(call.store)
    deadline = time.monotonic() + call.wait
    while True:
        data = store.run(call.recorded())
        if data is not None:
            return call.output(data)
        with ExitStack() as stack:
            try:
                run = stack.enter_context(call.opener(store))
            except RunBusy:
                if time.monotonic() >= deadline:
                    raise
            else:
                return run.finish(call.function(), returns=call.returns)
        time.sleep(POLL)


async def _answer_async(call: _Call) -> Any:
    store = connect(call.store)
    deadline = time.monotonic() + call.wait
    while True:
        data = await store.run_async(call.recorded())
        if data is not None:
            return call.output(data)
        async with AsyncExitStack() as stack:
            try:
                run = await stack.enter_async_context(call.opener(store))
            except RunBusy:
                if time.monotonic() >= deadline:
                    raise
            else:
                return run.finish(await call.function(), returns=call.returns)
        await asyncio.sleep(POLL)

"""The face of a run for async code: the same as ``runs.py``, with ``await``."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from agentcheckpoint.begun import Begun, BegunBase, begin_flow, leave_flow, save_flow
from agentcheckpoint.charging import charge_flow, plan_charge
from agentcheckpoint.core.amounts import Dollars
from agentcheckpoint.core.codec import UNANNOTATED
from agentcheckpoint.core.models import StepKind
from agentcheckpoint.face import recorded_now, recorded_random, recorded_uuid
from agentcheckpoint.flow import run_flow_async
from agentcheckpoint.looping import AsyncLoops
from agentcheckpoint.options import OFF, Step, as_step, refuse_approval
from agentcheckpoint.pausing import AsyncWaits
from agentcheckpoint.steps import plan_step, step_flow
from agentcheckpoint.transacting import AsyncTransactions

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncRun(AsyncWaits, AsyncLoops, AsyncTransactions):
    """An open run on an event loop. The slot of a step is taken when it is called, not when it is awaited."""

    @overload
    def step(
        self, step: str | Step, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self, step: str | Step, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def step(self, step: str | Step, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Runs ``fn(*args, **kwargs)``, async or not, as a step, or returns its recorded result; see ``Run.step``.

        A function that is not async runs on the event loop; wrap it in ``asyncio.to_thread`` if it blocks for long.
        """
        return self._call(as_step(step), "step", fn, args, kwargs)

    @overload
    def llm(
        self, step: str | Step, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def llm(
        self, step: str | Step, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def llm(self, step: str | Step, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Like ``step`` for a call that is paid for; see ``Run.llm``."""
        return self._call(as_step(step), "llm", fn, args, kwargs)

    def charge(self, step: str | Step, usd: Dollars, /) -> Coroutine[Any, Any, None]:
        """Books money that was spent outside of all calls; see ``Run.charge``."""
        if self._attempt.store is None:
            return _nothing()
        return run_flow_async(self._attempt.store, charge_flow(*plan_charge(self._attempt, step, usd)))

    @overload
    def begin(self, step: str | Step, returns: type[T], /) -> AsyncBegun[T]: ...
    @overload
    def begin(self, step: str | Step, returns: Any = UNANNOTATED, /) -> AsyncBegun[Any]: ...
    def begin(self, step: str | Step, returns: Any = UNANNOTATED, /) -> AsyncBegun[Any]:
        """The two-phase form: ``async with run.begin("draft", Draft) as s: if not s.done: await s.save(...)``."""
        return AsyncBegun(Begun(self._attempt, as_step(step), returns))

    async def now(self) -> datetime.datetime:
        """The time, recorded: a replay sees the same. In UTC."""
        return await self.step("now", recorded_now)

    async def uuid(self) -> uuid.UUID:
        """A random UUID, recorded."""
        return await self.step("uuid", recorded_uuid)

    async def random(self) -> float:
        """A random number in [0, 1), recorded."""
        return await self.step("random", recorded_random)

    def _call(
        self, step: Step, kind: StepKind, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        if self._attempt.store is None:
            refuse_approval(step, OFF)
            return _bare(fn, args, kwargs)
        plan = plan_step(self._attempt, step, kind, fn, args, kwargs)
        return run_flow_async(self._attempt.store, step_flow(plan))


async def _bare(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = fn(*args, **kwargs)
    return await value if hasattr(value, "__await__") else value


async def _nothing() -> None:
    return None


class AsyncBegun(BegunBase[T]):
    """A step in two phases, on an event loop."""

    async def save(self, value: T) -> T:
        """Commits the result, now. Returns it as a replay will."""
        store = self._begun.attempt.store
        if store is None:
            return cast(T, self._begun.set(value))
        return cast(T, await run_flow_async(store, save_flow(self._begun, value)))

    async def __aenter__(self) -> AsyncBegun[T]:
        if self._begun.attempt.store is not None:
            await run_flow_async(self._begun.attempt.store, begin_flow(self._begun))
            self._begun.go_inside()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._begun.attempt.store is not None:
            ms = self._begun.go_outside()
            await run_flow_async(self._begun.attempt.store, leave_flow(self._begun, error, ms))

"""``ac.run(...)`` and the blocking face of a run. It holds no rule: it asks, calls the user's function, and commits."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.begun import Begun, BegunBase, begin_flow, leave_flow, save_flow
from agentcheckpoint.charging import charge_flow, plan_charge
from agentcheckpoint.core import ids
from agentcheckpoint.core.amounts import Dollars
from agentcheckpoint.core.budget import Budget
from agentcheckpoint.core.codec import UNANNOTATED
from agentcheckpoint.core.functions import looks_of
from agentcheckpoint.core.lifecycle import OnExisting
from agentcheckpoint.core.models import StepKind
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.face import recorded_now, recorded_random, recorded_uuid
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, run_flow, run_flow_async
from agentcheckpoint.looping import BlockingLoops
from agentcheckpoint.opening import close_attempt, open_attempt, refuse_reuse
from agentcheckpoint.options import (
    LEASE,
    OFF,
    OnMismatch,
    RunKeywords,
    RunOptions,
    Step,
    as_step,
    check_blocking,
    refuse_approval,
    run_options,
)
from agentcheckpoint.pausing import BlockingWaits
from agentcheckpoint.steps import plan_step, step_flow
from agentcheckpoint.store.connect import Connectable, connect, switched_off
from agentcheckpoint.transacting import BlockingTransactions

if TYPE_CHECKING:
    from agentcheckpoint.aio import AsyncRun

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Run(BlockingWaits, BlockingLoops, BlockingTransactions):
    """An open run, blocking. Its steps are checkpointed; a step that is recorded is replayed."""

    def step(self, step: str | Step, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs ``fn(*args, **kwargs)`` as a step, or returns its recorded result.

        Args:
            step: its name, or ``Step(name, ...)`` with options.
            fn: what to run. Its return annotation says how the result is stored; without one it must be plain JSON.

        Returns:
            The result, the same in type and value the first time and on every replay.

        Raises:
            StepMismatch: recorded with other inputs.
            ResultNotStorable: the result would not come back as it went; it is in the error's ``value``.
            LeaseLost, CommitUnknown, StoreUnavailable, StoreRefused: not committed; the result is in ``value``.
            Exception: whatever ``fn`` raises, unchanged.
        """
        return cast(R, self._call(as_step(step), "step", fn, args, kwargs))

    def llm(self, step: str | Step, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Like ``step`` for a call that is paid for: its intent is stored before it is made, its tokens and cost with
        its result. Clients given to ``ac.wrap`` do this by themselves; this is for any other provider.
        """
        return cast(R, self._call(as_step(step), "llm", fn, args, kwargs))

    def charge(self, step: str | Step, usd: Dollars, /) -> None:
        """Books money that was spent outside of all calls, as a step of its own: a replay does not book it again.

        It counts towards the budgets, and is never refused: the money is gone.

        Args:
            step: its name, or ``Step(name, key=...)``.
            usd: dollars, such as ``"0.02"``.

        Raises:
            TypeError, ValueError: it is no amount.
            StepMismatch: recorded with another amount.
        """
        if self._attempt.store is not None:
            run_flow(self._attempt.store, charge_flow(*plan_charge(self._attempt, step, usd)))

    @overload
    def begin(self, step: str | Step, returns: type[T], /) -> SyncBegun[T]: ...
    @overload
    def begin(self, step: str | Step, returns: Any = UNANNOTATED, /) -> SyncBegun[Any]: ...
    def begin(self, step: str | Step, returns: Any = UNANNOTATED, /) -> SyncBegun[Any]:
        """The two-phase form: ``with run.begin("draft", Draft) as s: if not s.done: s.save(make())``."""
        return SyncBegun(Begun(self._attempt, as_step(step), returns))

    def now(self) -> datetime.datetime:
        """The time, recorded: a replay sees the same. In UTC."""
        return self.step("now", recorded_now)

    def uuid(self) -> uuid.UUID:
        """A random UUID, recorded."""
        return self.step("uuid", recorded_uuid)

    def random(self) -> float:
        """A random number in [0, 1), recorded."""
        return self.step("random", recorded_random)

    def _call(self, step: Step, kind: StepKind, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if looks_of(fn).is_async:
            raise RunMisuse(
                f"run {self.id!r}, step {step.name!r}: {getattr(fn, '__qualname__', fn)}: {ASYNC_IN_BLOCKING}",
                run_id=self.id,
                step=step.name,
            )
        if self._attempt.store is None:
            refuse_approval(step, OFF)
            return fn(*args, **kwargs)
        check_blocking(step, f"run {self.id!r}, step {step.name!r}")
        return run_flow(self._attempt.store, step_flow(plan_step(self._attempt, step, kind, fn, args, kwargs)))


class SyncBegun(BegunBase[T]):
    """A step in two phases: look, and save."""

    def save(self, value: T) -> T:
        """Commits the result, now. Returns it as a replay will."""
        store = self._begun.attempt.store
        return cast(T, self._begun.set(value) if store is None else run_flow(store, save_flow(self._begun, value)))

    def __enter__(self) -> SyncBegun[T]:
        if self._begun.attempt.store is not None:
            run_flow(self._begun.attempt.store, begin_flow(self._begun))
            self._begun.go_inside()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._begun.attempt.store is not None:
            run_flow(self._begun.attempt.store, leave_flow(self._begun, error, self._begun.go_outside()))


class Opener:
    """What ``ac.run(...)`` returns: ``with`` gives a ``Run``, ``async with`` an ``AsyncRun``."""

    def __init__(self, attempt: Attempt, wait: float) -> None:
        self._attempt = attempt
        self._wait = wait
        self._entered = False
        self._token: Token[Any] | None = None

    def __enter__(self) -> Run:
        refuse_reuse(self._attempt, self._entered)
        self._entered = True
        if self._attempt.store is not None:
            run_flow(self._attempt.store, open_attempt(self._attempt, self._wait))
        run = Run(self._attempt)
        self._go_inside()
        return run

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self._go_outside()
        if self._attempt.store is not None:
            run_flow(self._attempt.store, close_attempt(self._attempt, error, self._attempt.output))

    async def __aenter__(self) -> AsyncRun:
        from agentcheckpoint.aio import AsyncRun

        refuse_reuse(self._attempt, self._entered)
        self._entered = True
        if self._attempt.store is not None:
            self._attempt.store.loop_driver().retain()
            try:
                await run_flow_async(self._attempt.store, open_attempt(self._attempt, self._wait))
            except BaseException:
                self._attempt.store.loop_driver().release()
                raise
        run = AsyncRun(self._attempt)
        self._go_inside()
        return run

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self._go_outside()
        if self._attempt.store is not None:
            try:
                await run_flow_async(self._attempt.store, close_attempt(self._attempt, error, self._attempt.output))
            finally:
                self._attempt.store.loop_driver().release()

    def _go_inside(self) -> None:
        self._attempt.open = True
        self._token = current.enter(self._attempt, self._attempt.root)

    def _go_outside(self) -> None:
        if self._token is not None:
            current.leave(self._token)
        if self._attempt.store is None:
            self._attempt.open = False


def run(
    id: str | None = None,
    /,
    *,
    store: Connectable = None,
    namespace: str = "default",
    wait: float = 0.0,
    on_existing: OnExisting = "allow",
    on_mismatch: OnMismatch = "error",
    lease: float = LEASE,
    budget: Budget | Sequence[Budget] = (),
    tags: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
    conversation: str | None = None,
    timeout: float | None = None,
) -> Opener:
    """Opens a run: ``with ac.run("research-42") as run:`` or ``async with``.

    The same id goes on with that run: steps that are recorded are replayed, the first that is not is executed.

    Args:
        id: the run's name; without one the run is new each time and replays nothing.
        store: a URL, a redis-py client, or what ``ac.connect`` returned; by default ``$AGENTCHECKPOINT_URL``, else
            an embedded server.
        namespace: keeps runs of one store apart, ``[a-z0-9_-]``, at most 32 characters.
        wait: seconds to wait for another worker that is alive and at it, before ``RunBusy``.
        on_existing: what to make of a run of that id: ``"allow"`` goes on with it, or begins it; ``"must"`` demands
            it; ``"never"`` refuses it; ``"fresh"`` begins it afresh: nothing that was recorded is replayed, and what it
            has cost so far stays in its account.
        on_mismatch: what to do when a recorded step is called with other inputs: ``"error"``, ``"rerun"`` (pay
            again) or ``"reuse"`` (take the record).
        lease: seconds that the right to work on the run lasts without being renewed.
        budget: the ceiling, or ceilings, on what the run pays; see ``Budget``. The limits are those given now.
        tags: what ``ac.costs`` counts the money of this attempt under, such as ``("team-a",)``.
        metadata: texts to note about the run when it is begun, such as ``{"user": "42"}``.
        conversation: what the run belongs to, noted when it is begun: a long chat has a run for each turn.
        timeout: seconds that this attempt may take, from when it is open: after that its steps raise ``RunTimeout``.

    Raises:
        InvalidName, RunMisuse: before anything is sent.
        InvalidStore, NotInstalled: there is no such store.
        RunNotFound, RunExists: ``on_existing`` says so.
        RunBusy, RunCancelled, RunDeleted, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused,
            StoreUnavailable: when it is entered.
    """
    keywords = RunKeywords(
        namespace=namespace,
        wait=wait,
        on_existing=on_existing,
        on_mismatch=on_mismatch,
        lease=lease,
        budget=budget,
        tags=tags,
        metadata=metadata,
        conversation=conversation,
        timeout=timeout,
    )
    return open_run_for(id, store, run_options(keywords))


def open_run_for(id: str | None, store: Connectable, options: RunOptions) -> Opener:
    """``run``, with its options together."""
    run_id = ids.check_run_id(id) if id is not None else new_run_id()
    return Opener(Attempt(None if switched_off() else connect(store), run_id, options), options.wait)


def new_run_id() -> str:
    """A name for a run that was given none."""
    return f"run-{uuid.uuid4().hex[:12]}"

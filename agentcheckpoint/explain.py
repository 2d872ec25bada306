"""The words of the errors about records, inputs and runs that are taken; failures as text; and warnings."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Mapping
from typing import TypeVar

from agentcheckpoint.core.budget import Exceeded
from agentcheckpoint.core.fingerprint import difference
from agentcheckpoint.core.journal import Call
from agentcheckpoint.core.ledger import answer_money, money
from agentcheckpoint.core.models import Done, Failure, Inputs
from agentcheckpoint.errors import (
    AgentCheckpointError,
    AgentCheckpointWarning,
    BudgetExceeded,
    CheckpointCorrupt,
    CrashLoop,
    DurabilityWarning,
    Interrupted,
    RunBusy,
    RunMisuse,
    RunTimeout,
    StepMismatch,
)
from agentcheckpoint.store.holder import Holder, describe

_FUNCTION = (
    "a key (Step(name, key=...)) if these are different steps; on_mismatch='rerun' to run it again; "
    "on_mismatch='reuse' to take the recorded result; ignore=(...) for arguments that do not matter"
)
_MODEL_CALL = (
    "a name or key (with ac.name('name', key=...):) if these are different calls; on_mismatch='rerun', there or in "
    "ac.run(...), to buy it again; on_mismatch='reuse' to take the recorded answer"
)

E = TypeVar("E", bound=AgentCheckpointError)

_NOT_THE_CALLERS = frozenset({"agentcheckpoint", "contextlib"})


def busy_error(run_id: str, holder: Holder | None, ttl: float) -> RunBusy:
    owner = describe(holder) if holder is not None else "somebody"
    return RunBusy(
        f"run {run_id!r} is being worked on by {owner}; its lease runs for another {ttl:.0f} s if it is not renewed. "
        "Wait for it with ac.run(..., wait=60), or stop that worker: a dead one on this machine is taken over at once.",
        run_id=run_id,
        owner=owner,
        ttl=ttl,
    )


def not_open(run_id: str) -> RunMisuse:
    return RunMisuse(f"run {run_id!r} is not open: call its steps inside `with ac.run(...)`.", run_id=run_id)


def nothing_more(run_id: str, broken: AgentCheckpointError) -> AgentCheckpointError:
    return type(broken)(
        f"run {run_id!r}: no more steps can be called in this attempt, after this: {broken}", run_id=run_id
    )


def time_is_up(run_id: str) -> RunTimeout:
    return RunTimeout(
        f"run {run_id!r}: the timeout= of this attempt is up: no more steps can be called in it. Open the run again: "
        "it goes on with this step.",
        run_id=run_id,
    )


def crash_loop(run_id: str, died: int) -> CrashLoop:
    return CrashLoop(
        f"run {run_id!r}: its last {died} attempts died with their processes, and none of them had recorded a step. No "
        "worker takes it up again by itself: it might pay each time. Find out what kills it (its memory, perhaps), "
        f"then ac.retry({run_id!r}) lets it go on.",
        run_id=run_id,
    )


def step_mismatch(run_id: str, call: Call, recorded: Done, function: str) -> StepMismatch:
    """The error for a call of ``function`` with other inputs than are recorded, or as another version."""
    if recorded.version != call.version:
        return _other_version(run_id, call, recorded)
    rows = difference(recorded.inputs, call.inputs)
    lines = "".join(f"\n  {name}: recorded {old}, came {new}" for name, old, new in rows)
    error = StepMismatch(
        f"run {run_id!r}, step {call.slot!r}: it is recorded with other inputs than it is called with now.{lines}\n"
        f"{_paid(recorded)}Choose: {_MODEL_CALL if function.startswith('openai:') else _FUNCTION}; or another run id.",
        run_id=run_id,
        step=call.slot,
    )
    error.differences = tuple(rows)
    return error


def _other_version(run_id: str, call: Call, recorded: Done) -> StepMismatch:
    rows = (("version", recorded.version, call.version), *difference(recorded.inputs, call.inputs))
    lines = "".join(f"\n  {name}: recorded {old or 'none'}, came {new or 'none'}" for name, old, new in rows)
    return StepMismatch(
        f"run {run_id!r}, step {call.slot!r}: it is recorded in another version than it is called in now.{lines}\n"
        f"{_paid(recorded)}Choose: on_mismatch='rerun' at the step to run it again; on_mismatch='reuse' to take the "
        "recorded result; migrate=function to make today's result of it; or another run id.",
        run_id=run_id,
        step=call.slot,
    )


def _paid(recorded: Done) -> str:
    costs = [entry.cost for entry in answer_money(recorded)]
    stake = money(sum(c for c in costs if c is not None)) if costs and None not in costs else "an unknown sum"
    return f"It cost {stake} when it was recorded. " if costs else ""


def input_mismatch(run_id: str, agent: str | None, recorded: Inputs, came: Inputs) -> StepMismatch:
    lines = "".join(f"\n  {name}: recorded {old}, came {new}" for name, old, new in difference(recorded, came))
    return StepMismatch(
        f"run {run_id!r} of agent {agent!r} was started with other arguments than it is called with now.{lines}\n"
        "A run id names one question: use another id for this one, or on_mismatch='reuse' to go on with the old.",
        run_id=run_id,
    )


def place(error: E, run_id: str, step: str | None = None) -> E:
    """The error, which says now in which run and step it came up, if it did not. Without a step: in the output."""
    if error.run_id is None:
        where = f"step {step!r}" if step is not None else "its output"
        error.args = (f"run {run_id!r}{f', {where}: ' if error.step is None else ', '}{error}",)
        error.run_id, error.step = run_id, step
    return error


class placed:
    """What is refused inside says in which run and step. A class: each step enters it twice."""

    __slots__ = ("_run_id", "_step")

    def __init__(self, run_id: str, step: str | None = None) -> None:
        self._run_id, self._step = run_id, step

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CheckpointCorrupt | RunMisuse):
            raise place(error, self._run_id, self._step) from error.__cause__


def budget_exceeded(refused: Exceeded) -> BudgetExceeded:
    def told(amount: int) -> str:
        return money(amount) if refused.kind == "usd" else f"{amount:,}"

    parts = [f"paid {told(refused.paid)}"]
    parts += [f"wasted {told(refused.wasted)}"] if refused.wasted else []
    parts += [f"unresolved, at most, {told(refused.unresolved)}"] if refused.unresolved else []
    parts += [f"reserved for calls under way {told(refused.reserved)}"] if refused.reserved else []
    whose = "of the run" if refused.budget.name is None else repr(refused.budget.name)
    window = f", this {refused.budget.window}" if refused.budget.window else ""
    return BudgetExceeded(
        f"run {refused.run_id!r}, step {refused.step!r}: the budget {whose} has no room for this call. Its limit is "
        f"{told(refused.limit)} ({refused.kind}{window}): {', '.join(parts)}; left {told(refused.left)}. This call may "
        f"take {told(refused.asked)}. Nothing was sent. Raise the limit and open the run again, it goes on here; or "
        "lower what the call may take: a smaller limit of output, a cheaper model.",
        run_id=refused.run_id,
        step=refused.step,
        budget=refused.budget.name,
        kind=refused.kind,
        limit=refused.limit,
        spent=refused.paid + refused.wasted + refused.unresolved,
        reserved=refused.reserved,
        asked=refused.asked,
    )


def failure(error: BaseException) -> Failure:
    """An exception as text, bounded: whatever it holds, it can be stored."""
    try:
        message = str(error)
    except Exception as exc:
        message = f"(its text cannot be read: {type(exc).__name__})"
    trace = "".join(traceback.format_exception(error))
    return Failure(type=type(error).__qualname__, message=_storable(message[:2000]), trace=_storable(trace[-4000:]))


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def rolled_back(run_id: str) -> DurabilityWarning:
    return DurabilityWarning(
        f"run {run_id!r}: the server had forgotten that this worker claimed the run, so it was rolled back (a failover "
        "to a lagging replica, or a restart without fsync). All that this worker knows to be committed is still there; "
        "what other workers committed meanwhile may not be."
    )


def wrong_totals(run_id: str, stored: Mapping[str, str], sums: Mapping[str, int]) -> str:
    return (
        f"run {run_id!r}: its stored totals {stored} are not the sums of its ledger {sums}. The ledger counts; the "
        "totals were set to it. Something else writes to this run's keys."
    )


def unbooked_waste(run_id: str, trouble: Exception) -> AgentCheckpointWarning:
    return AgentCheckpointWarning(f"run {run_id!r}: what this worker paid could not be booked as wasted: {trouble}")


def warn(message: str, category: type[AgentCheckpointWarning]) -> None:
    """Warns at the line of the caller's own code."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _NOT_THE_CALLERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def cancelled_inside(run_id: str, why: str) -> Interrupted:
    """What unwinds an attempt of a run that was cancelled."""
    return Interrupted(f"run {run_id!r} was cancelled: {why}. What is paid is recorded.")


def interrupted(run_id: str, why: str) -> Interrupted:
    """What unwinds an attempt that is to end."""
    return Interrupted(
        f"run {run_id!r} is interrupted: {why}. What is paid is recorded, and the lease is given back: opened "
        "again, the run goes on from here."
    )

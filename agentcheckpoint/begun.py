"""The two-phase step: look whether it is recorded, and if not, save its result when it is there."""

from __future__ import annotations

import functools
from contextvars import Token
from typing import Any, Generic, TypeVar, cast

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.codec import UNANNOTATED, result_type
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.explain import placed
from agentcheckpoint.flow import Course, Flow, Raised
from agentcheckpoint.identity import key_of, random_key
from agentcheckpoint.migrating import reviver
from agentcheckpoint.once import refuse_options
from agentcheckpoint.options import Step, refuse_approval
from agentcheckpoint.steps import Plan, decide, replay, scope_in
from agentcheckpoint.trying import examine, keep, note_failure

T = TypeVar("T")
_NOTHING = object()


def _nothing() -> None:
    return None


class Begun:
    """A step that was begun: what both faces' ``begin`` share."""

    def __init__(self, attempt: Attempt, step: Step, returns: Any) -> None:
        self.attempt = attempt
        self.step = step
        self.done = False
        self._value: object = _NOTHING
        self._plan: Plan | None = None
        self._entered = False
        self._began = 0
        self._inside: Token[Any] | None = None
        self._noted: BaseException | None = None
        self._known_as = random_key() if attempt.store is None else ""
        refuse_options(attempt, step, "run.begin calls no function")
        if step.cost is not None:
            raise RunMisuse(
                f"run {attempt.run_id!r}, step {step.name!r}: run.begin cannot know when what it costs is paid. Make "
                "the paid call a step with cost=, inside; or book it with run.charge(name, amount).",
                run_id=attempt.run_id,
                step=step.name,
            )
        if step.retry is not None:
            raise RunMisuse(
                f"run {attempt.run_id!r}, step {step.name!r}: the body of a `with` cannot be run again, so run.begin "
                "takes no retry=. Make it a function: run.step(ac.Step(name, retry=...), function).",
                run_id=attempt.run_id,
                step=step.name,
            )
        refuse_approval(step, "run.begin calls nothing: ask with run.wait_for")
        with placed(attempt.run_id, step.name):
            self._type = result_type(step.returns if returns is UNANNOTATED else returns)

    @property
    def value(self) -> object:
        if self._value is _NOTHING:
            raise RunMisuse(
                f"run {self.attempt.run_id!r}, step {self.step.name!r}: it has no result yet: save one first.",
                run_id=self.attempt.run_id,
                step=self.step.name,
            )
        return self._value

    @property
    def idempotency_key(self) -> str:
        """The step's, once its ``with`` has been entered."""
        if not self._known_as:
            self.plan()  # it says how to use it
        return self._known_as

    def plan(self) -> Plan:
        """The call, as planned when its ``with`` was entered, until it is left."""
        if self._plan is None:
            raise RunMisuse(
                f"run {self.attempt.run_id!r}, step {self.step.name!r}: use it as `with run.begin(...) as s:`.",
                run_id=self.attempt.run_id,
                step=self.step.name,
            )
        return self._plan

    def enter(self) -> Plan:
        """Takes the slot."""
        attempt, step = self.attempt, self.step
        attempt.check()
        if self._entered:
            raise RunMisuse(
                f"run {attempt.run_id!r}, step {step.name!r}: this run.begin(...) has been entered before. Call "
                "run.begin again for another step.",
                run_id=attempt.run_id,
                step=step.name,
            )
        self._entered = True
        scope = scope_in(attempt)
        call = attempt.journal.call(scope, step.name, step.key, function_inputs(_nothing, (), {}))
        plan = Plan(attempt, step, "step", scope, call, "begin", self._type, functools.partial(_nothing), ((), {}))
        self._known_as = key_of(attempt, plan.slot, call.inputs.digest)
        self._plan = plan
        return plan

    def note(self, error: BaseException) -> None:
        """The error is stored as a failed attempt."""
        self._noted = error

    def is_noted(self, error: BaseException) -> bool:
        return error is self._noted

    def set(self, value: object) -> object:
        self.done, self._value = True, value
        return value

    def go_inside(self) -> None:
        """Steps called in the body are this step's children."""
        self._began = self.attempt.now_ms()
        self._inside = current.enter(self.attempt, self.plan().inside())

    def go_outside(self) -> int:
        """Leaves the step's position; returns how long the body took, milliseconds."""
        if self._inside is not None:
            current.leave(self._inside)
            self._inside = None
        return self.ms()

    def left(self) -> None:
        """The ``with`` is left: nothing can be saved any more."""
        if self._plan is not None:
            self.attempt.journal.end(self._plan.call)
            self._plan = None

    def ms(self) -> int:
        return self.attempt.now_ms() - self._began


class BegunBase(Generic[T]):
    """What both faces of a step in two phases show of it."""

    def __init__(self, begun: Begun) -> None:
        self._begun = begun

    @property
    def done(self) -> bool:
        """Whether the step is recorded (or has just been saved)."""
        return self._begun.done

    @property
    def value(self) -> T:
        """Its result. Raises ``RunMisuse`` before there is one."""
        return cast(T, self._begun.value)

    @property
    def idempotency_key(self) -> str:
        """What the other side can know the step by, inside its ``with``; see ``ac.idempotency_key``."""
        return self._begun.idempotency_key


def begin_flow(begun: Begun) -> Course[None]:
    """Takes the slot, and the record if there is one."""
    plan = begun.enter()
    record = yield from decide(plan)
    if record is not None:
        begun.set((yield from replay(plan, record, reviver(plan, record))))


def save_flow(begun: Begun, value: object) -> Flow[object]:
    """Commits the result.

    Raises:
        RunMisuse: it is recorded already.
    """
    plan = begun.plan()
    if begun.done:
        raise RunMisuse(
            f"run {plan.attempt.run_id!r}, step {plan.slot!r}: it is recorded already. Write `if not s.done:` around "
            "what makes and saves its result.",
            run_id=plan.attempt.run_id,
            step=plan.slot,
            value=value,
        )
    kept = yield from keep(plan, examine(plan, value, begun.ms(), ()))
    if isinstance(kept, Raised):
        begun.note(kept.error)
        return kept
    return begun.set(kept)


def leave_flow(begun: Begun, error: BaseException | None, ms: int) -> Flow[None]:
    """Ends the step. Leaving without a result is an error, or a failed attempt if the body raised."""
    plan = begun.plan()
    try:
        if begun.done:
            return None
        if error is None:
            error = RunMisuse(
                f"run {plan.attempt.run_id!r}, step {plan.slot!r}: its `with` was left without saving a result. Call "
                "s.save(value), or raise.",
                run_id=plan.attempt.run_id,
                step=plan.slot,
            )
            yield from note_failure(plan, error, ms, ())
            return Raised(error)
        if not begun.is_noted(error):
            yield from note_failure(plan, error, ms, ())
        return None
    finally:
        begun.left()

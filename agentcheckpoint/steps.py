"""The course of a step: replay it, or execute it and commit its result. One text for both colours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.codec import UNANNOTATED, ResultType, annotation_of, result_type
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.core.functions import looks_of
from agentcheckpoint.core.journal import Call, Scope
from agentcheckpoint.core.models import Decision, Done, StepKind
from agentcheckpoint.core.roundtrip import name_of
from agentcheckpoint.errors import CheckpointCorrupt, RunMisuse
from agentcheckpoint.explain import place
from agentcheckpoint.flow import Course, Flow, Perform
from agentcheckpoint.migrating import reviver
from agentcheckpoint.once import check_once
from agentcheckpoint.options import Step
from agentcheckpoint.store.effects import Await, Protocol
from agentcheckpoint.trying import keep, try_once

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
    decided: Decision | None = field(default=None, kw_only=True)
    """What was made of its call before, which was in doubt."""

    @property
    def slot(self) -> str:
        return self.call.slot

    def inside(self) -> Scope:
        """The scope of one execution of it."""
        retried = self.scope.retried or self.step.retry is not None
        return Scope(self.slot, outer=self.scope, digest=self.call.inputs.digest, retried=retried)

    def __del__(self) -> None:
        self.attempt.journal.end(self.call)


@dataclass(slots=True)
class Plan(Site):
    """A call of a function with all that is known before it runs."""

    type: ResultType[Any]
    function: functools.partial[Any]
    arguments: tuple[tuple[Any, ...], Mapping[str, Any]]


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
    if looks_of(fn).is_generator:
        raise RunMisuse(
            f"run {attempt.run_id!r}, step {step.name!r}: {name_of(fn)} is a generator: what it yields can be "
            "consumed only once, and a result is given again on each replay. Call something that returns a list.",
            run_id=attempt.run_id,
            step=step.name,
        )
    try:  # a ``with`` of its own takes each step longer
        kind_of_result = result_type(annotation_of(fn) if step.returns is UNANNOTATED else step.returns)
    except RunMisuse as exc:
        raise place(exc, attempt.run_id, step.name) from exc.__cause__
    inputs = function_inputs(fn, args, kwargs, step.ignore)
    scope = scope_in(attempt)
    call = attempt.journal.call(scope, step.name, step.key, inputs)
    name = f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', type(fn).__qualname__)}"
    function = functools.partial(fn, *args, **kwargs)
    plan = Plan(attempt, step, kind, scope, call, name, kind_of_result, function, (args, kwargs))
    check_once(plan)
    return plan


def scope_in(attempt: Attempt) -> Scope:
    """The step that the running code is inside of, in this attempt; else the run itself."""
    here = current.position()
    return here.scope if here is not None and here.attempt is attempt else attempt.root


def step_flow(plan: Plan) -> Flow[Any]:
    """Replays the step, or executes it and stores its result.

    Returns the result as it will be on every replay. What the function raises is stored as a failed attempt, and raised
    unchanged if the step's policy, or that it has none, makes it the last one.
    """
    done = yield from decide(plan)
    if done is not None:
        return (yield from replay(plan, done, reviver(plan, done)))
    try:
        if plan.step.approve:
            yield from approved(plan)
        plan.attempt.journal.executes(plan.call)
        if plan.step.retry is None:
            return (yield from keep(plan, (yield from try_once(plan))))
        from agentcheckpoint.again import try_again  # tenacity is loaded where somebody uses it

        return (yield from try_again(plan))
    finally:
        plan.attempt.journal.end(plan.call)


def approved(plan: Plan) -> Course[None]:
    """Returns once somebody has approved of the call. Raises ``NotApproved``, ``Suspended``."""
    from agentcheckpoint.approving import ask_first  # it stands on the waits, which are steps

    yield from ask_first(plan)


def decide(site: Site) -> Course[Done | None]:
    """The record to replay, or ``None``: execute. First ends what must end before: open streams, a call of this key."""
    attempt = site.attempt
    _check(site)  # a coroutine may be awaited long after its call
    try:
        for finish in list(attempt.before_next_call):
            yield from finish()
        while (under_way := attempt.journal.start(site.call)) is not None:
            yield Perform(_until_ended(attempt.journal.end_of(under_way)))
            _check(site)
        site.call.version = site.step.version_text
        return attempt.decide(site.call, site.step, site.name)
    except BaseException:
        attempt.journal.end(site.call)
        raise


def _check(site: Site) -> None:
    site.attempt.check()
    current.check_scope(site.attempt, site.scope)


def _until_ended(ended: Future[None]) -> Protocol[None]:
    yield Await(ended, idle=True)


def replay(site: Site, done: Done, decode: Callable[[bytes], T]) -> Course[T]:
    """The recorded result, counted as replayed once it is there."""
    try:
        data = site.attempt.fetched(done)
        if data is None:
            data = yield Perform(site.attempt.fetch(done))
        try:
            value = decode(data)
        except (CheckpointCorrupt, RunMisuse) as exc:
            raise place(exc, site.attempt.run_id, site.slot) from exc.__cause__
        site.attempt.count_replay(done)
        site.attempt.journal.replayed(site.call)
    finally:
        site.attempt.journal.end(site.call)
    return value

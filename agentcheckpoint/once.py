"""Steps that must not happen twice: their intents, and what is made of one that is in doubt."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.codec import ResultType
from agentcheckpoint.core.fingerprint import difference
from agentcheckpoint.core.journal import Scope
from agentcheckpoint.core.models import Inputs, Intent, LedgerEntry, Withdrawn
from agentcheckpoint.errors import AgentCheckpointError, ResultNotStorable, RunMisuse, StepMismatch
from agentcheckpoint.explain import place
from agentcheckpoint.flow import ASYNC_IN_BLOCKING, Course, Invoke, Perform, Raised, Returned
from agentcheckpoint.options import Happened, Step
from agentcheckpoint.store.commit import Change

if TYPE_CHECKING:
    from agentcheckpoint.steps import Plan, Site


def refuse_options(attempt: Attempt, step: Step, why: str) -> None:
    """Raises ``RunMisuse`` if a step that calls nothing has an effect or a limit of its own."""
    if step.effect is None and step.timeout is None:
        return
    raise RunMisuse(
        f"run {attempt.run_id!r}, step {step.name!r}: {why}: effect= and timeout= are for steps that do. Make the call "
        "a step of its own, and give them to that.",
        run_id=attempt.run_id,
        step=step.name,
    )


def check_once(plan: Plan) -> None:
    """Refuses, before anything runs, an effect where there can be none.

    Raises:
        RunMisuse: it is a model call; or to skip it would give a result that its type does not allow.
    """
    why = None
    if plan.step.effect is not None and plan.kind == "llm":
        why = "a model call has its own way to recover, and never waits for anybody. Leave effect= out"
    elif plan.step.in_doubt == "skip" and not takes_none(plan.type):
        why = "in_doubt='skip' records None as its result, and its type does not allow that: annotate it `... | None`"
    if why is not None:
        raise RunMisuse(
            f"run {plan.attempt.run_id!r}, step {plan.slot!r}: effect='once': {why}.",
            run_id=plan.attempt.run_id,
            step=plan.slot,
        )


def takes_none(type: ResultType[Any]) -> bool:
    """Whether ``None`` is a result of this type."""
    try:
        return type.encode(None)[1] is None
    except ResultNotStorable:
        return False


def intend(site: Site, entries: tuple[LedgerEntry, ...]) -> Course[None]:
    """Stores that a call is about to be made. Where it is not made after all, that is stored too.

    Raises:
        LeaseLost: another worker has the run, though the intent was stored before he took it: it is not to be acted on.
        StepTimeout, RunTimeout, Interrupted: what the call is part of was given up meanwhile, or the run's time is up.
    """
    attempt, once = site.attempt, site.step.effect == "once"
    intent = Intent(
        id=new_id(),
        at=attempt.now_ms(),
        slot=site.slot,
        inputs=site.call.inputs if once else None,
        overlap=site.call.overlap if once else None,
        decided=site.decided,
        entries=entries,
    )
    try:
        yield Perform(attempt.commit(Change(intent), site.call))
        attempt.fence.check()
        attempt.check_stop()
        attempt.check_time()
        current.check_scope(attempt, site.scope)
    except GeneratorExit:
        raise
    except BaseException as exc:
        if attempt.journal.doubts.of(site.slot) == intent:
            yield from _withdraw(site, entries, exc)
        raise


def _withdraw(site: Site, entries: tuple[LedgerEntry, ...], why: BaseException) -> Course[None]:
    """The call is not made: nothing is in doubt, and its money is not spent."""
    attempt = site.attempt
    unsent = [entry.model_copy(update={"bill": "not_billed", "price": "never sent"}) for entry in entries[-1:]]
    withdrawn = Withdrawn(id=new_id(), at=attempt.now_ms(), slot=site.slot, entries=tuple(unsent))
    try:
        yield Perform(attempt.commit(Change(withdrawn), site.call))
    except AgentCheckpointError as trouble:
        why.add_note(f"agentcheckpoint could not store that the call was not made: {trouble}")


def clear_up(plan: Plan) -> Course[Returned | Raised | None]:
    """What is made of a call that is in doubt: its result, what ``verify=`` raised; ``None``: the step is to be called.

    Raises:
        StepInDoubt: somebody has to decide.
        StepMismatch: it was called with other inputs.
    """
    plan.decided = None
    doubt = plan.attempt.journal.doubts.of(plan.slot)
    if plan.step.effect is None or doubt is None:
        return None
    if _is_other_call(plan, doubt):
        plan.decided = "rerun"
        return None
    if plan.step.verify is not None:
        return (yield from _verify(plan))
    if plan.step.in_doubt is None or plan.step.in_doubt == "ask":
        from agentcheckpoint.doubting import ask_what_to_do  # it stands on the waits, which are steps

        return (yield from ask_what_to_do(plan, doubt))
    plan.decided = plan.step.in_doubt
    return Returned(None) if plan.decided == "skip" else None


def _is_other_call(plan: Plan, doubt: Intent) -> bool:
    """Whether it was called with other inputs, and is to be called all the same."""
    policy = plan.step.on_mismatch or plan.attempt.options.on_mismatch
    if doubt.inputs is None or doubt.inputs.digest == plan.call.inputs.digest or policy == "reuse":
        return False
    if policy == "rerun":
        return True
    raise _mismatch(plan, doubt.inputs)


def _verify(plan: Plan) -> Course[Returned | Raised | None]:
    verify = cast(Any, plan.step.verify)
    call = functools.partial(verify, *plan.arguments[0], **plan.arguments[1])
    scope = Scope(plan.slot, outer=plan.scope, digest=plan.call.inputs.digest)
    outcome = yield Invoke(call, inside=functools.partial(current.at, plan.attempt, scope))
    if isinstance(outcome, Raised):
        if isinstance(outcome.error, RunMisuse) and outcome.error.args == (ASYNC_IN_BLOCKING,):
            place(outcome.error, plan.attempt.run_id, plan.slot)
        return outcome
    told: Happened[Any] | None = outcome.value
    if told is None:
        plan.decided = "did not happen"
        return None
    if not isinstance(cast(object, told), Happened):
        return Raised(
            RunMisuse(
                f"run {plan.attempt.run_id!r}, step {plan.slot!r}: verify= returned {type(told).__name__}. It returns "
                "ac.Happened(result), or None if the step has not happened.",
                run_id=plan.attempt.run_id,
                step=plan.slot,
            )
        )
    plan.decided = "happened"
    return Returned(told.result)


def _mismatch(plan: Plan, recorded: Inputs) -> StepMismatch:
    rows = difference(recorded, plan.call.inputs)
    lines = "".join(f"\n  {name}: begun with {old}, came {new}" for name, old, new in rows)
    return StepMismatch(
        f"run {plan.attempt.run_id!r}, step {plan.slot!r}: it must not happen twice, it was begun before with other "
        f"inputs than it is called with now, and nobody knows whether that has happened.{lines}\nChoose: a key "
        "(Step(name, key=...)) if these are different steps; on_mismatch='reuse' if it is the same, to be treated as "
        "in_doubt= or verify= says; on_mismatch='rerun' to call it whatever became of the other; ignore=(...) for "
        "arguments that do not matter.",
        run_id=plan.attempt.run_id,
        step=plan.slot,
    )

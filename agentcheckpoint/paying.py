"""Before a call is paid: room for its worst case in the budgets, and its intent. And what a priced step has cost."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from agentcheckpoint import once
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.amounts import dollars
from agentcheckpoint.core.budget import Ask, Budget, Exceeded
from agentcheckpoint.core.journal import Call
from agentcheckpoint.core.models import Failed, LedgerEntry, Usage
from agentcheckpoint.core.pricing import priced
from agentcheckpoint.core.usage import Measured, usage_of
from agentcheckpoint.errors import AgentCheckpointWarning, RunMisuse
from agentcheckpoint.explain import budget_exceeded, failure, warn
from agentcheckpoint.flow import Course, Invoke, Perform, Raised
from agentcheckpoint.options import Step
from agentcheckpoint.reserving import known_ledger
from agentcheckpoint.store.commit import Change

if TYPE_CHECKING:
    from agentcheckpoint.steps import Plan, Site

_UNBOUNDED = (
    "nothing bounds what it takes; give it a bound: ac.Step(name, max_cost=...), and max_tokens=... under a budget of "
    "tokens"
)


def reserve(
    attempt: Attempt,
    call: Call,
    entry: LedgerEntry,
    ask: Ask,
    *,
    known: Sequence[LedgerEntry] = (),
    spent: bool = False,
) -> Course[Exceeded | None]:
    """Keeps room for an attempt to pay in all budgets of the run; ``known`` is what the log does not say yet.

    Raises:
        RunMisuse: a budget cannot bound the call.
        StoreError: a shared budget could not be asked.
    """
    reservations = attempt.reservations
    if not reservations.budgets:
        return None
    missing = None if spent else ask.missing(reservations.budgets)
    if missing is not None:
        raise RunMisuse(
            f"run {attempt.run_id!r}, step {call.slot!r}: the run has a budget, and this call has no bound: "
            f"{missing}. Nothing was sent.",
            run_id=attempt.run_id,
            step=call.slot,
        )
    if known:
        yield Perform(reservations.settle(known))
    ledger = known_ledger(list(attempt.money.values()), known, waste=list(attempt.waste.values()))
    gaps = reservations.gaps(ledger)
    if gaps:
        warn(
            f"run {attempt.run_id!r}: {gaps} earlier attempt(s) to pay have neither a known cost nor a bound, so that "
            "the run's budget cannot count them: they were made without it. ac.get(run).ledger shows them.",
            AgentCheckpointWarning,
        )
    refused: Exceeded | None = yield Perform(
        reservations.reserve(call, entry, ask, ledger, attempt.now_ms(), spent=spent)
    )
    return refused


def afford(
    attempt: Attempt,
    call: Call,
    entry: LedgerEntry,
    ask: Ask,
    told: list[Budget],
    known: Sequence[LedgerEntry] = (),
) -> Course[Mapping[str, Any] | None]:
    """Keeps room for an attempt, or asks the budget's ``on_exceeded`` what to do, once for each budget.

    Returns:
        ``None``: it is reserved. Else what is to be changed in the call's body.

    Raises:
        BudgetExceeded: there is no room.
        RunMisuse: a budget cannot bound the call.
        Exception: what ``on_exceeded`` raises.
    """
    refused = yield from reserve(attempt, call, entry, ask, known=known)
    if refused is None:
        return None
    hook = refused.budget.on_exceeded
    if hook is None or refused.budget in told:
        raise budget_exceeded(refused)
    told.append(refused.budget)
    outcome = yield Invoke(functools.partial(hook, refused))
    if isinstance(outcome, Raised):
        raise outcome.error
    change = cast("Mapping[str, Any] | None", outcome.value)
    if change is None:
        raise budget_exceeded(refused)
    if not isinstance(cast(Any, change), Mapping) or ask.body is None or "stream" in change:
        raise RunMisuse(
            f"run {attempt.run_id!r}, step {call.slot!r}: on_exceeded= returned {change!r}. It returns None, or "
            "what to change in the body of a wrapped client's call (not `stream`), such as {'model': ...}.",
            run_id=attempt.run_id,
            step=call.slot,
        )
    return change


def intend(site: Site, entry: LedgerEntry, ask: Ask, known: Sequence[LedgerEntry] = ()) -> Course[None]:
    """Stores that an attempt is about to be paid for, with what became of those before it.

    Room that was kept for too long meanwhile may have been given to others, who found no intent: it is asked for again.

    Raises:
        Interrupted: the attempt is to end. Nothing was paid.
        BudgetExceeded: its room was gone.
    """
    attempt = site.attempt
    yield from once.intend(site, (*known, entry))
    while not attempt.reservations.is_kept(entry.id, attempt.now_ms()):
        refused = yield from reserve(attempt, site.call, entry, ask)
        if refused is not None:
            error = budget_exceeded(refused)
            failed = Failed(
                id=new_id(),
                at=attempt.now_ms(),
                slot=site.slot,
                kind=site.kind,
                error=failure(error),
                entries=(_unsent(entry, "its room was gone"),),
            )
            yield Perform(attempt.commit(Change(failed), site.call))
            attempt.journal.failed(failed)
            raise error


def _unsent(entry: LedgerEntry, why: str) -> LedgerEntry:
    return entry.model_copy(update={"bill": "not_billed", "price": f"never sent: {why}"})


def buy(plan: Plan) -> Course[LedgerEntry | None]:
    """Before a function is called that costs something, or must not happen twice: room for it, and its intent.

    Returns the attempt to pay; ``None``: it is free.
    """
    attempt, step = plan.attempt, plan.step
    if plan.kind != "llm" and step.cost is None:
        if step.effect is not None:
            yield from once.intend(plan, ())
        return None
    ask = _ask(plan)
    entry = LedgerEntry(
        id=new_id(),
        bill="unresolved",
        slot=plan.slot,
        model=step.model,
        provider=step.provider,
        bound=ask.usd,
        bound_tokens=ask.tokens,
        at=attempt.now_ms(),
    )
    yield from afford(attempt, plan.call, entry, ask, [])
    yield from intend(plan, entry, ask)
    return entry


def _ask(plan: Plan) -> Ask:
    step = plan.step
    usd = None if step.max_cost is None else dollars(step.max_cost)
    if usd is None and step.cost is not None and not callable(step.cost):
        usd = dollars(step.cost)
    tokens = 0 if plan.kind != "llm" and step.max_tokens is None else step.max_tokens
    return Ask(usd, tokens, _UNBOUNDED, _UNBOUNDED)


def charged(step: Step, bought: LedgerEntry, result: object, ms: int) -> LedgerEntry:
    """The entry of a step that has a price of its own, now that its result is there."""
    if step.cost is None:
        return bought
    try:
        nano, source = dollars(step.cost(result) if callable(step.cost) else step.cost, "Step(cost=...)"), "Step(cost=)"
    except Exception as exc:  # the result is paid for, and is not to be lost for it
        said = failure(exc)
        nano, source = None, f"unpriced: cost= gave no amount: {said.type}: {said.message[:200]}"
    return bought.model_copy(update={"bill": "paid", "cost": nano, "price": source, "ms": ms})


def paid(plan: Plan, bought: LedgerEntry, result: object, ms: int) -> LedgerEntry:
    """The ledger entry of an answer that came: tokens and price as far as they can be known."""
    step, trouble = plan.step, None
    if plan.kind != "llm":
        return charged(step, bought, result, ms)
    try:
        said = Measured(_usage(step.usage(result))) if step.usage is not None else usage_of(result)
    except Exception as exc:  # the answer is paid for, and is not to be lost for it
        raised = failure(exc)
        said, trouble = Measured(), f"unmeasured: usage= raised {raised.type}: {raised.message[:200]}"
    bought = priced(bought, said, step.prices)
    settled = bought.model_copy(update={"bill": "paid", "ms": ms, "price": trouble or bought.price})
    return charged(step, settled, result, ms)


def _usage(said: object) -> Usage | None:
    if said is None or isinstance(said, Usage):
        return said
    raise TypeError(f"it returned {type(said).__qualname__}, not ac.Usage or None")

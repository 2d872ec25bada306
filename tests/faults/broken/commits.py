"""Commits broken on purpose: what is sent, how often, and what is believed of it. The grid has to catch each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

from agentcheckpoint import attempt, current, steps, trying
from agentcheckpoint.core import ledger, pricing
from agentcheckpoint.core.journal import Journal
from agentcheckpoint.core.models import Intent, Rejected
from agentcheckpoint.core.pricing import Cost
from agentcheckpoint.flow import Invoke, Raised
from agentcheckpoint.openai.sse import Passing
from agentcheckpoint.store import commit as protocol
from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.effects import Lost, Packet
from agentcheckpoint.store.lane import Lane
from agentcheckpoint.store.thread_driver import ThreadDriver
from agentcheckpoint.store.wire import Wire

from ..scenario import Fault
from ..variants import Single, Variant, doing


@contextmanager
def client_retries() -> Iterator[None]:
    """A packet whose reply did not come is sent once more, as redis-py does by itself."""
    perform, submit = ThreadDriver._perform, Lane.submit

    def again(self: ThreadDriver, effect: Any, held: list[Wire]) -> Any:
        try:
            return perform(self, effect, held)
        except Lost:
            return perform(self, replace(effect, patience=3), held)

    async def again_async(self: Lane, packet: Packet, caller: Any) -> Any:
        try:
            return await submit(self, packet, caller)
        except Lost:
            return await submit(self, replace(packet, patience=3), caller)

    with mock.patch.object(ThreadDriver, "_perform", again), mock.patch.object(Lane, "submit", again_async):
        yield


@contextmanager
def sent_again() -> Iterator[None]:
    """Nothing is settled: a commit in doubt is taken as not applied, and sent again under its own token."""

    def unsettled(job: Any, token: str, *, doubt: bool) -> Any:
        return None
        yield

    with mock.patch.object(protocol, "_settle", unsettled):
        yield


@contextmanager
def believed() -> Iterator[None]:
    """A commit in doubt is taken as applied."""

    def hopeful(job: Any, token: str, *, doubt: bool) -> Any:
        return protocol.Committed()
        yield

    with mock.patch.object(protocol, "_settle", hopeful):
        yield


@contextmanager
def kept_connections() -> Iterator[None]:
    """A connection is used again after a time-out: the late answer is read as that of the next packet."""

    def keep(self: Wire | AsyncWire) -> None:
        return None

    perform = ThreadDriver._perform

    def long_lived(self: ThreadDriver, effect: Any, held: list[Wire]) -> Any:
        return perform(self, replace(effect, patience=1) if isinstance(effect, Packet) else effect, held)

    with (
        mock.patch.object(Wire, "close", keep),
        mock.patch.object(Wire, "stale", lambda self: False),
        mock.patch.object(AsyncWire, "close", keep),
        mock.patch.object(ThreadDriver, "_perform", long_lived),
    ):
        yield


@contextmanager
def two_transactions() -> Iterator[None]:
    """The totals follow the record in a transaction of their own."""
    commands = protocol.commit_commands
    commit = protocol.commit

    def without_totals(fence: Any, token: str, change: Any, line: str) -> Any:
        return commands(fence, token, replace(change, totals={}), line)

    def two(fence: Any, change: Any, *rest: Any, **options: Any) -> Any:
        outcome = yield from commit(fence, change, *rest, **options)
        for name, delta in change.totals.items():
            yield Packet((("MULTI",), ("HINCRBY", fence.keys.meta(fence.token), name, delta), ("EXEC",)))
        return outcome

    with mock.patch.object(protocol, "commit_commands", without_totals), mock.patch.object(attempt, "commit", two):
        yield


@contextmanager
def float_money() -> Iterator[None]:
    """Costs are kept as dollars in a float, to the cent's hundredth."""
    priced = pricing.price_usage

    def rounded(*args: Any, **options: Any) -> Cost:
        cost = priced(*args, **options)
        return replace(cost, nano=None if cost.nano is None else int(round(cost.nano / 1e9, 4) * 1e9))

    with mock.patch.object(pricing, "price_usage", rounded):
        yield


@contextmanager
def counted_twice() -> Iterator[None]:
    """Totals grow by each entry that is said, not by what is new in it."""

    def blindly(known: Mapping[str, Any], entries: Any) -> dict[str, int]:
        return ledger.totals(entries)

    with mock.patch.object(ledger, "growth", blindly):
        yield


@contextmanager
def no_intent() -> Iterator[None]:
    """A paid call is made without a word before it."""
    commit = attempt.Attempt.commit

    def unannounced(self: Any, change: Any, *rest: Any) -> Any:
        if isinstance(change.entry, Intent):
            return protocol.Committed()
        return (yield from commit(self, change, *rest))

    with mock.patch.object(attempt.Attempt, "commit", unannounced):
        yield


@contextmanager
def commit_before_the_call() -> Iterator[None]:
    """A step is noted as done, and then done."""
    try_once, keep = steps.try_once, steps.keep

    def hasty(plan: Any) -> Any:
        if plan.kind != "step":
            return (yield from try_once(plan))
        yield from trying.keep_result(plan, plan.call.inputs, b"null", 0, (), None)
        outcome = yield Invoke(partial(current.call_inside, plan.attempt, plan.inside(), plan.function))
        return trying.Tried(outcome, 0, ())

    def kept(plan: Any, tried: Any) -> Any:
        if plan.kind != "step":
            return (yield from keep(plan, tried))
        return tried.outcome if isinstance(tried.outcome, Raised) else tried.outcome.value

    with mock.patch.object(steps, "try_once", hasty), mock.patch.object(steps, "keep", kept):
        yield


@contextmanager
def two_flights() -> Iterator[None]:
    """Two calls of one key run side by side."""

    def at_once(self: Journal, call: Any) -> None:
        if call.group is None:
            self._compare(call, True)

    with mock.patch.object(Journal, "start", at_once):
        yield


@contextmanager
def refusals_forgotten() -> Iterator[None]:
    """A load does not know which answers were rejected."""
    load = Journal.__init__

    def forgetful(self: Journal, entries: Any) -> None:
        load(self, [entry for entry in entries if not isinstance(entry, Rejected)])

    with mock.patch.object(Journal, "__init__", forgetful):
        yield


@contextmanager
def half_streams() -> Iterator[None]:
    """A stream counts as answered as soon as anything has come."""
    with mock.patch.object(Passing, "answered", property(lambda self: bool(self.events))):
        yield


@contextmanager
def leases_left() -> Iterator[None]:
    """The lease that a settlement takes is never given back."""

    def keep(fence: Any, token: str) -> Any:
        return None
        yield

    with mock.patch.object(protocol, "give_back", keep):
        yield


def _late_answers(_agent: object, fault: Fault, _clean: object) -> bool:
    return fault.fate == "delay"


def _variant(
    name: str, rule: str, broken: Callable[[], AbstractContextManager[None]], aim: Single | None = None
) -> Variant:
    return Variant(name, rule, "grid", broken, aim)


VARIANTS = (
    _variant("ambiguous-sent-again", "rule 4", sent_again, _late_answers),
    _variant("ambiguous-believed", "rule 1", believed),
    _variant("client-retries-on", "rule 5", client_retries, _late_answers),
    _variant(
        "connection-kept-after-trouble",
        "rule 6",
        kept_connections,
        lambda agent, fault, _: not agent.is_async and fault.fate == "delay",
    ),
    _variant("no-single-flight", "rule 8", two_flights),
    _variant("totals-by-increment-alone", "rule 13", counted_twice),
    _variant(
        "settled-lease-left",
        "rule 14",
        leases_left,
        lambda agent, fault, clean: not agent.is_job and fault.fate == "delay" and fault.n > clean.commands - 12,
    ),
    _variant("two-transactions", "result and cost in one atomic write", two_transactions),
    _variant("float-money", "money is exact", float_money),
    _variant(
        "intent-dropped", "an attempt that may have been billed is in the ledger", no_intent, doing("paid", "kill")
    ),
    _variant("commit-before-the-call", "a result is stored whole or not at all", commit_before_the_call),
    _variant(
        "rejections-forgotten",
        "a refused answer is not replayed",
        refusals_forgotten,
        doing("rejected", "kill-after"),
    ),
    _variant("half-a-stream-recorded", "a stream is recorded whole or not at all", half_streams),
)

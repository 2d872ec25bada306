"""One live attempt of a run: its right to write, its replay state, its account. Both faces work on the same one."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentcheckpoint import explain
from agentcheckpoint.core import ids, ledger
from agentcheckpoint.core.chain import Chain, Where
from agentcheckpoint.core.cursors import FIELD, Cursors
from agentcheckpoint.core.journal import Call, Journal, Scope
from agentcheckpoint.core.models import Done, Intent, LedgerEntry, Located
from agentcheckpoint.core.outdated import answer
from agentcheckpoint.core.tries import Series
from agentcheckpoint.errors import (
    AgentCheckpointError,
    AgentCheckpointWarning,
    CheckpointCorrupt,
    CheckpointsLost,
    CommitUnknown,
    LeaseLost,
    RunDeleted,
    StoreError,
)
from agentcheckpoint.flow import Course
from agentcheckpoint.options import RunOptions, Step, on_version
from agentcheckpoint.reserving import Reservations
from agentcheckpoint.results import Results
from agentcheckpoint.store.commit import Change, Committed, Superseded, commit
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.store import Store
from agentcheckpoint.store.upkeep import book_waste

if TYPE_CHECKING:
    from agentcheckpoint.retries.policy import Decision, Trial

on_decision: list[Callable[[Attempt, Call, Done | None], None]] = []
"""Called with each call once it is known what answers it: a record, or nothing, so that it is executed or refused."""
before_call: list[Callable[[Attempt, str, Callable[[], Any]], Callable[[], Any]]] = []
"""Called with a step's slot and function before it is called; what they return is called instead."""
before_commit: list[Callable[[Attempt, Change], None]] = []
"""Called before each commit is sent."""
after_commit: list[Callable[[Attempt, Change], None]] = []
"""Called after each commit that was applied. The crash points of tests and of the demo hang at these last three."""


def new_id() -> str:
    """An id for a log entry or a paid attempt."""
    return secrets.token_hex(8)


def new_token(epoch: int) -> str:
    """A fencing token: the nonce is there because a failover can forget an epoch and hand the number out again."""
    return f"{epoch}.{secrets.token_hex(8)}"


class Attempt:
    """The state of one attempt. Its methods that do I/O are protocol generators; ``taking`` begins and ends it.

    Args:
        store: where the run is kept; ``None`` when the library is switched off.
        run_id: which run, in the options' namespace.
        options: how it is opened.
    """

    output: bytes | None = None
    """What ``run.finish`` was given, as result bytes."""

    def __init__(self, store: Store | None, run_id: str, options: RunOptions) -> None:
        self.store = store
        self.run_id = ids.check_run_id(run_id)
        self.options = options
        self.namespace = options.namespace
        self.instance = secrets.token_hex(8)
        self.fence = Fence(RunKeys(ids.run_tag(self.namespace, run_id)), self.namespace, run_id)
        self.fence.ttl_ms = int(options.lease * 1000)
        self.chain = Chain()
        self.root = Scope()
        self.number, self.state, self.open, self.birth = 0, "", False, ""
        self.deadline: float | None = None
        """When its time is up, on the monotonic clock."""
        self.leaving = False
        """Its ``with`` is being left: streams that are still open are ended."""
        self.stop = ""
        """Why the attempt is to end at its next commit; empty: it is not."""
        self.broken: AgentCheckpointError | None = None
        """What a commit met after which nobody knows what is recorded: no more steps are called in this attempt."""
        self.lease_lock = threading.Lock()
        """Held while the lease is renewed, so that no renewal comes after its release."""
        self.journal = Journal(())
        self.money, self.waste = dict[str, LedgerEntry](), dict[str, LedgerEntry]()
        self.reservations = Reservations(options.budgets, self.namespace, run_id)
        self.replayed: list[Done] = []
        self.before_next_call: list[Callable[[], Course[None]]] = []
        """Streams that may have been left after their answer was complete: to be finished first."""
        self.answers: dict[str, tuple[Done, Call]] = {}
        """The model calls' answers that were handed out, by the provider's ids: they may be rejected."""
        self.is_listed = False
        """It is known to stand in the list of runs."""
        self.series, self.died_before = Series(), 0
        """The attempts before this one that failed, and count for the run's policy; how many just before it died."""
        self.failed_before = 0
        """How many of them this process knows of, should the store not have taken their ends."""
        self.trial: Trial | None = None
        self.decision: Decision | None = None
        """What the run's policy has made of the error that the attempt was left by."""
        self.results, self.cursors = Results(self.fence, ()), Cursors({}, "")
        self.clock: tuple[int, float] = (0, time.monotonic())
        """The server's time, and this process's at that moment."""

    # -- time and words -------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Milliseconds since the epoch on the server's clock, carried on by this process's monotonic one."""
        base, then = self.clock
        return base + int((time.monotonic() - then) * 1000)

    def where(self, slot: str, entry_id: str) -> Where:
        """Where a record's result bytes belong."""
        return Where(self.namespace, self.run_id, slot, entry_id)

    def check(self) -> None:
        """Raises if a step cannot be called: closed, forked, lost to another worker, or it is to end."""
        self.check_right()
        if self.stop or self.fence.cancelled or self.deadline is not None:
            self.check_end()

    def check_right(self) -> None:
        """Raises if nothing can be stored: closed, forked, or lost to another worker."""
        if not self.open:
            raise explain.not_open(self.run_id)
        if self.broken is not None:
            raise explain.nothing_more(self.run_id, self.broken)
        self.fence.check()

    def check_end(self) -> None:
        """Raises ``Interrupted`` or ``RunTimeout`` if the attempt is to end, or its time is up."""
        self.check_stop()
        self.check_time()

    @property
    def is_to_end(self) -> bool:
        """Whether ``check_end`` raises."""
        told = bool(self.fence.cancelled or self.stop) and not self.leaving
        return told or (self.deadline is not None and time.monotonic() >= self.deadline)

    def check_stop(self) -> None:
        """Raises ``Interrupted`` if the attempt is to end: nothing more is paid in it."""
        if self.fence.cancelled and not self.leaving:
            raise explain.cancelled_inside(self.run_id, self.fence.cancelled)
        if self.stop and not self.leaving:
            raise explain.interrupted(self.run_id, self.stop)

    def check_time(self) -> None:
        """Raises ``RunTimeout`` if the attempt's time is up."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise explain.time_is_up(self.run_id)

    # -- steps ----------------------------------------------------------------------------------------------------

    def decide(self, call: Call, step: Step, function: str) -> Done | None:
        """The record to answer the call with; ``None``: execute it.

        Raises:
            StepMismatch: other inputs or another version are recorded, and the policy is to say so.
        """
        record = call.found or call.mismatch
        too_old = step.max_age is not None and record is not None and record.id not in self.journal.own
        oldest = self.now_ms() - int(step.max_age * 1000) if step.max_age is not None and too_old else None
        on_inputs = step.on_mismatch or self.options.on_mismatch
        told = answer(call, on_version(step), on_inputs, oldest)
        answered = record if told == "replay" else None
        for observe in on_decision:
            observe(self, call, answered)
        if told == "refuse" and record is not None:
            raise explain.step_mismatch(self.run_id, call, record, function)
        return answered

    def fetched(self, done: Done) -> bytes | None:
        """The same as ``fetch``, if it has come already."""
        stored = self.results.take(done)
        return None if stored is None else self.chain.decode(stored, done.payload, self.where(done.slot, done.id))

    def fetch(self, done: Done) -> Protocol[bytes]:
        """The result bytes of a record, through the chain of codecs."""
        return self.chain.decode((yield from self.results.fetch(done)), done.payload, self.where(done.slot, done.id))

    def count_replay(self, done: Done) -> None:
        """A record answered a call: what it had cost is saved."""
        self.replayed.append(done)

    def commit(self, change: Change, call: Call, value: object = None) -> Protocol[Committed | Superseded]:
        """Stores a change that belongs to a call; see ``store.commit.commit`` for what it raises."""

        def same(done: Done) -> bool:
            stood = call.mismatch or call.stale
            is_new = stood is None or (done.at >= stood.at and done.id != stood.id)
            asked = (call.slot, call.inputs.digest, call.version)
            return is_new and (done.slot, done.inputs.digest, done.version) == asked

        def note(outcome: Committed | Superseded) -> None:
            """Before anything else that may raise: what is recorded is never to be bought again."""
            self.journal.doubts.tell(change.entry)
            if isinstance(outcome, Superseded):
                self.journal.replayed(call)
            elif done is not None:
                self.journal.record(call, done)

        done = change.entry if isinstance(change.entry, Done) else None
        try:
            return (yield from self.store_change(change, call.slot, value, same if done is not None else None, note))
        except (RunDeleted, CheckpointsLost, CheckpointCorrupt, CommitUnknown) as exc:
            if not (isinstance(exc, CommitUnknown) and isinstance(change.entry, Located)):  # a hint may come late
                self.broken = exc
            raise
        except GeneratorExit:  # given up: by one Ctrl-C too many, or with the loop
            self.broken = CommitUnknown(f"a commit of step {call.slot!r} was given up while it was under way")
            raise

    def store_change(
        self,
        change: Change,
        slot: str | None = None,
        value: object = None,
        same: Callable[[Done], bool] | None = None,
        note: Callable[[Committed | Superseded], None] = lambda _: None,
    ) -> Protocol[Committed | Superseded]:
        """Commits a change with its money; what it raises, and what came of it, is accounted for first."""
        entries: tuple[LedgerEntry, ...] = tuple(getattr(change.entry, "entries", ()))
        grown = ledger.growth(self.money, entries)
        fields = dict(change.fields)
        if "state" not in fields and self.open and self.state != "running":
            fields["state"] = "running"
        # A step that outlives its run is recorded all the same; the lease has been given back.
        drop = tuple(name for name in self.cursors.ended_by(change.entry) if name not in fields)
        release = change.release or not self.open
        unmark = tuple(sorted(self.fence.looping.intersection(name.removeprefix(FIELD) for name in drop)))
        change.totals, change.fields, change.release, change.drop, change.unmark = grown, fields, release, drop, unmark
        for observe in before_commit:
            observe(self, change)
        try:
            outcome = yield from commit(self.fence, change, new_token, step=slot, value=value, same=same)
        except AgentCheckpointError as exc:
            said = self._durability()
            if isinstance(exc, LeaseLost):
                # The last one of an intent was not sent, and now it will not be.
                said += yield from self._book_waste(entries[:-1] if isinstance(change.entry, Intent) else entries)
            for warning in said:  # no warning hides the error that carries what was paid
                exc.add_note(str(warning))
            raise
        note(outcome)
        said = self._durability()
        if isinstance(outcome, Superseded):
            said += yield from self._book_waste(entries)
        else:
            self.money.update((entry.id, entry) for entry in entries)
            self.state = fields.get("state", self.state)
            self.cursors.dropped(drop)
            self.fence.looping.difference_update(unmark)
            yield from self.reservations.settle(entries)
        for warning in said:
            explain.warn(str(warning), type(warning))
        if isinstance(outcome, Committed):
            for observe in after_commit:
                observe(self, change)
        return outcome

    def _book_waste(self, entries: tuple[LedgerEntry, ...]) -> Protocol[list[AgentCheckpointWarning]]:
        """Books what this worker paid for nothing, since the run is another's now; returns what is to be said."""
        wasted = ledger.as_waste(entries)
        self.waste.update((entry.id, entry) for entry in wasted)
        said: list[AgentCheckpointWarning] = []
        try:
            yield from book_waste(self.fence, wasted)
        except StoreError as trouble:
            said.append(explain.unbooked_waste(self.run_id, trouble))
        yield from self.reservations.settle(wasted)
        return said

    def _durability(self) -> list[AgentCheckpointWarning]:
        """What is to be said, once, if the server has forgotten a claim of this worker, or its replicas lag."""
        said: list[AgentCheckpointWarning] = [explain.rolled_back(self.run_id)] if self.fence.went_back else []
        self.fence.went_back = False
        if self.store is not None and (shortfall := self.store.shortfall()) is not None:
            said.append(shortfall)
        return said

    # -- account --------------------------------------------------------------------------------------------------

    def cost(self) -> ledger.CostReport:
        """What was spent on this run so far, by all its attempts, and what this attempt saved by replaying."""
        money, waste, records = dict(self.money), dict(self.waste), tuple(self.journal.records.values())
        return ledger.attempt_report(money, waste, tuple(self.replayed), records, self.reservations.limit)

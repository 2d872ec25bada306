"""One live attempt of a run: its right to write, its replay state, its account. Both faces work on the same one."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence

from agentcheckpoint import explain
from agentcheckpoint.core import ids, ledger
from agentcheckpoint.core.budget import Budget
from agentcheckpoint.core.codec import Chain, Where
from agentcheckpoint.core.journal import Call, Journal, Scope
from agentcheckpoint.core.models import Birth, Closed, Done, Inputs, Intent, LedgerEntry, Located, Opened
from agentcheckpoint.current import released_here
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
from agentcheckpoint.options import OnMismatch
from agentcheckpoint.reserving import Reservations
from agentcheckpoint.results import Results, revive
from agentcheckpoint.store.claim import Opening, Taken, open_run
from agentcheckpoint.store.commit import Change, Committed, Superseded, commit
from agentcheckpoint.store.effects import Pause, Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import this_process
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.store import Store
from agentcheckpoint.store.upkeep import book_waste, set_totals, sweep

after_commit: list[Callable[[Attempt, Change], None]] = []
"""Called after each commit that was applied: crash points of tests and of the demo hang here."""

LEASE = 30.0
"""Seconds that a lease lasts without being renewed."""


def new_id() -> str:
    """An id for a log entry or a paid attempt."""
    return secrets.token_hex(8)


def new_token(epoch: int) -> str:
    """A fencing token: the nonce is there because a failover can forget an epoch and hand the number out again."""
    return f"{epoch}.{secrets.token_hex(8)}"


class Attempt:
    """The state of one attempt. Its methods that do I/O are protocol generators.

    Args:
        store: where the run is kept; ``None`` when the library is switched off.
        run_id, namespace: which run.
        on_mismatch: what to do when a step's inputs differ from the recorded ones.
        lease: seconds.
        agent, inputs, budgets, tags: the decorated agent and its call; the ceilings; what the money is counted under.
    """

    def __init__(
        self,
        store: Store | None,
        run_id: str,
        namespace: str = "default",
        *,
        on_mismatch: OnMismatch = "error",
        lease: float = LEASE,
        agent: str | None = None,
        inputs: Inputs | None = None,
        budgets: Sequence[Budget] = (),
        tags: tuple[str, ...] = (),
    ) -> None:
        self.store = store
        self.run_id = ids.check_run_id(run_id)
        self.namespace = ids.check_namespace(namespace)
        self.on_mismatch: OnMismatch = on_mismatch
        self.instance = secrets.token_hex(8)
        self.fence = Fence(RunKeys(ids.run_tag(namespace, run_id)), namespace, run_id)
        self.fence.ttl_ms = int(lease * 1000)
        self.chain = Chain(())
        self.root = Scope()
        self.number, self.state, self.open, self.birth = 0, "", False, ""
        self.deadline: float | None = None
        """When its time is up, on the monotonic clock."""
        self.leaving = False
        """Its ``with`` is being left: streams that are still open are ended."""
        self.broken: AgentCheckpointError | None = None
        """What a commit met after which nobody knows what is recorded: no more steps are called in this attempt."""
        self.lease_lock = threading.Lock()
        """Held while the lease is renewed, so that no renewal comes after its release."""
        self.journal = Journal(())
        self.money, self.waste = dict[str, LedgerEntry](), dict[str, LedgerEntry]()
        self.reservations = Reservations(budgets, namespace, run_id)
        self.replayed: list[Done] = []
        self.before_next_call: list[Callable[[], Course[None]]] = []
        """Streams that may have been left after their answer was complete: to be finished first."""
        self.answers: dict[str, tuple[Done, Call]] = {}
        """The model calls' answers that were handed out, by the provider's ids: they may be rejected."""
        self.is_listed = False
        """It is known to stand in the list of runs."""
        self._agent, self._inputs, self._tags = agent, inputs, tags or None
        self._results = Results(self.fence, ())
        self._clock = (0, time.monotonic())

    # -- time and words -------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Milliseconds since the epoch on the server's clock, carried on by this process's monotonic one."""
        base, then = self._clock
        return base + int((time.monotonic() - then) * 1000)

    def where(self, slot: str, entry_id: str) -> Where:
        """Where a record's result bytes belong."""
        return Where(self.namespace, self.run_id, slot, entry_id)

    def check(self) -> None:
        """Raises if a step cannot be called: closed, forked, lost to another worker, or its time is up."""
        if not self.open:
            raise explain.not_open(self.run_id)
        if self.broken is not None:
            raise explain.nothing_more(self.run_id, self.broken)
        self.fence.check()
        self.check_time()

    def check_time(self) -> None:
        """Raises ``RunTimeout`` if the attempt's time is up."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise explain.time_is_up(self.run_id)

    # -- opening and closing --------------------------------------------------------------------------------------

    def opening(self, wait: float) -> Protocol[None]:
        """Claims the run and loads it, waiting up to ``wait`` seconds for a worker that is alive."""
        holder = this_process(self.instance)
        self.fence.holder = holder.model_dump_json().encode()
        worker, stamp = f"pid {holder.pid} on {holder.host}", int(time.time() * 1000)
        opening = Opening(
            birth=Birth(id=new_id(), at=stamp, namespace=self.namespace, run=self.run_id),
            entry=lambda n: Opened(
                id=new_id(), at=stamp, attempt=n, worker=worker, agent=self._agent, inputs=self._inputs, tags=self._tags
            ),
            released=released_here,
        )
        deadline = time.monotonic() + wait
        while not isinstance(outcome := (yield from open_run(self.fence, new_token, opening)), Taken):
            left = deadline - time.monotonic()
            if left <= 0:
                raise explain.busy_error(self.run_id, outcome.holder, outcome.ttl)
            yield Pause(min(0.2, left), idle=True)
        self._take_over(outcome.loaded)
        yield from self._mend_totals(outcome.loaded)

    def _take_over(self, loaded: Loaded) -> None:
        self._clock = (loaded.now_ms, time.monotonic())
        self.journal, self.birth = Journal(loaded.entries), loaded.entries[0].id
        self.state, self.number = loaded.meta["state"], int(loaded.meta["attempt"])
        self.money = ledger.fold_entries(ledger.logged_money(loaded.entries))
        self.waste = {entry.id: entry for entry in loaded.waste}
        self._results = Results(self.fence, [e for e in loaded.entries if isinstance(e, Done)])
        self.open = True

    def _mend_totals(self, loaded: Loaded) -> Protocol[None]:
        sums = ledger.totals(self.money.values())
        stored = {name: loaded.meta.get(name, "0") for name in sums}
        if stored != {name: str(amount) for name, amount in sums.items()}:
            explain.warn(explain.wrong_totals(self.run_id, stored, sums), AgentCheckpointWarning)
            yield from set_totals(self.fence, sums)

    def closing(self, closed: Closed, output: bytes | None) -> Protocol[None]:
        """Notes how the attempt ended, stores the output, and gives the lease back."""
        with self.lease_lock:
            self.open = False
        change = Change(closed, output, fields={"state": closed.state}, release=True)
        yield from self._commit(change, None, None, None)
        if self.fence.doubtful:
            yield from sweep(self.fence)

    # -- steps ----------------------------------------------------------------------------------------------------

    def decide(self, call: Call, on_mismatch: OnMismatch | None, function: str) -> Done | None:
        """The record to answer the call with; ``None``: execute it.

        Raises:
            StepMismatch: other inputs are recorded, and the policy is to say so.
        """
        if call.mismatch is None:
            return call.found
        policy = on_mismatch or self.on_mismatch
        if policy == "reuse":
            return call.mismatch
        if policy == "rerun":
            return None
        raise explain.step_mismatch(self.run_id, call, call.mismatch, function)

    def fetch(self, done: Done) -> Protocol[bytes]:
        """The result bytes of a record, through the chain of codecs."""
        return revive(self.chain, (yield from self._results.fetch(done)), done.payload, self.where(done.slot, done.id))

    def count_replay(self, done: Done) -> None:
        """A record answered a call: what it had cost is saved."""
        self.replayed.append(done)

    def commit(self, change: Change, call: Call, value: object = None) -> Protocol[Committed | Superseded]:
        """Stores a change that belongs to a call; see ``store.commit.commit`` for what it raises."""

        def same(done: Done) -> bool:
            return done.slot == call.slot and done.inputs.digest == call.inputs.digest

        def note(outcome: Committed | Superseded) -> None:
            """Before anything else that may raise: what is recorded is never to be bought again."""
            self.journal.doubts.tell(change.entry)
            if isinstance(outcome, Superseded):
                self.journal.replayed(call)
            elif done is not None:
                self.journal.record(call, done)

        done = change.entry if isinstance(change.entry, Done) else None
        try:
            return (yield from self._commit(change, call.slot, value, same if done is not None else None, note))
        except (RunDeleted, CheckpointsLost, CheckpointCorrupt, CommitUnknown) as exc:
            if not (isinstance(exc, CommitUnknown) and isinstance(change.entry, Located)):  # a hint may come late
                self.broken = exc
            raise
        except GeneratorExit:  # given up: by one Ctrl-C too many, or with the loop
            self.broken = CommitUnknown(f"a commit of step {call.slot!r} was given up while it was under way")
            raise

    def _commit(
        self,
        change: Change,
        slot: str | None,
        value: object,
        same: Callable[[Done], bool] | None,
        note: Callable[[Committed | Superseded], None] = lambda _: None,
    ) -> Protocol[Committed | Superseded]:
        entries: tuple[LedgerEntry, ...] = tuple(getattr(change.entry, "entries", ()))
        grown = ledger.growth(self.money, entries)
        fields = dict(change.fields)
        if "state" not in fields and self.open and self.state != "running":
            fields["state"] = "running"
        # A step that outlives its run is recorded all the same; the lease has been given back.
        change = Change(change.entry, change.result, grown, fields, change.release or not self.open)
        try:
            outcome = yield from commit(self.fence, change, new_token, step=slot, value=value, same=same)
        except AgentCheckpointError as exc:
            said = self._rolled_back()
            if isinstance(exc, LeaseLost):
                # The last one of an intent was not sent, and now it will not be.
                said += yield from self._book_waste(entries[:-1] if isinstance(change.entry, Intent) else entries)
            for warning in said:  # no warning hides the error that carries what was paid
                exc.add_note(str(warning))
            raise
        note(outcome)
        said = self._rolled_back()
        if isinstance(outcome, Superseded):
            said += yield from self._book_waste(entries)
        else:
            self.money.update((entry.id, entry) for entry in entries)
            self.state = fields.get("state", self.state)
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

    def _rolled_back(self) -> list[AgentCheckpointWarning]:
        """What is to be said if the server has forgotten a claim of this worker; it is said once."""
        said: list[AgentCheckpointWarning] = [explain.rolled_back(self.run_id)] if self.fence.went_back else []
        self.fence.went_back = False
        return said

    # -- account --------------------------------------------------------------------------------------------------

    def cost(self) -> ledger.CostReport:
        """What was spent on this run so far, by all its attempts, and what this attempt saved by replaying."""
        money, waste, records = dict(self.money), dict(self.waste), tuple(self.journal.records.values())
        return ledger.attempt_report(money, waste, tuple(self.replayed), records, self.reservations.limit)

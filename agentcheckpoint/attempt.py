"""One live attempt of a run: its right to write, its replay state, its account. Both faces work on the same one."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from agentcheckpoint.core import ids, ledger
from agentcheckpoint.core.codec import Chain, Where
from agentcheckpoint.core.journal import Call, Journal, Scope
from agentcheckpoint.core.models import Birth, Closed, Done, Inputs, Intent, LedgerEntry, Opened, Payload
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import (
    AgentCheckpointError,
    AgentCheckpointWarning,
    CheckpointCorrupt,
    CheckpointsLost,
    CommitUnknown,
    DurabilityWarning,
    LeaseLost,
    RunDeleted,
    RunMisuse,
    StoreError,
)
from agentcheckpoint.explain import busy_error, step_mismatch, warn
from agentcheckpoint.flow import Course
from agentcheckpoint.options import OnMismatch
from agentcheckpoint.results import Results
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
        agent, inputs: the decorated agent that this run belongs to, and what it was called with.
        tags: what the money of this attempt is counted under.
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
        self.number = 0
        self.state = ""
        self.open = False
        self.leaving = False
        """Its ``with`` is being left: streams that are still open are ended."""
        self.broken: AgentCheckpointError | None = None
        """What a commit met after which nobody knows what is recorded: no more steps are called in this attempt."""
        self.lease_lock = threading.Lock()
        """Held while the lease is renewed, so that no renewal comes after its release."""
        self.journal = Journal(())
        self.money: dict[str, LedgerEntry] = {}
        self.waste: dict[str, LedgerEntry] = {}
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
        """Raises if a step cannot be called: closed, forked, or lost to another worker."""
        if not self.open:
            raise RunMisuse(
                f"run {self.run_id!r} is not open: call its steps inside `with ac.run(...)`.", run_id=self.run_id
            )
        if self.broken is not None:
            raise type(self.broken)(
                f"run {self.run_id!r}: no more steps can be called in this attempt, after this: {self.broken}",
                run_id=self.run_id,
            )
        self.fence.check()

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
                raise busy_error(self.run_id, outcome.holder, outcome.ttl)
            yield Pause(min(0.2, left), idle=True)
        self._take_over(outcome.loaded)
        yield from self._mend_totals(outcome.loaded)

    def _take_over(self, loaded: Loaded) -> None:
        self._clock = (loaded.now_ms, time.monotonic())
        self.journal = Journal(loaded.entries)
        self.state = loaded.meta["state"]
        self.number = int(loaded.meta["attempt"])
        self.money = ledger.fold_entries(ledger.logged_money(loaded.entries))
        self.waste = {entry.id: entry for entry in loaded.waste}
        self._results = Results(self.fence, [e for e in loaded.entries if isinstance(e, Done)])
        self.open = True

    def _mend_totals(self, loaded: Loaded) -> Protocol[None]:
        sums = ledger.totals(self.money.values())
        stored = {name: loaded.meta.get(name, "0") for name in sums}
        if stored != {name: str(amount) for name, amount in sums.items()}:
            warn(
                f"run {self.run_id!r}: its stored totals {stored} are not the sums of its ledger {sums}. The ledger "
                "counts; the totals were set to it. Something else writes to this run's keys.",
                AgentCheckpointWarning,
            )
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

    def decide(self, call: Call, on_mismatch: OnMismatch | None) -> Done | None:
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
        raise step_mismatch(self.run_id, call, call.mismatch)

    def fetch(self, done: Done) -> Protocol[bytes]:
        """The result bytes of a record, through the chain of codecs."""
        data = yield from self._results.fetch(done)
        return self.revive(data, done.payload, done.slot, done.id)

    def revive(self, data: bytes, payload: Payload, slot: str, entry_id: str) -> bytes:
        """Stored result bytes, through the chain of codecs.

        Raises:
            CheckpointCorrupt: they are not as many as were recorded, or the chain does not take them.
        """
        if len(data) != payload.size:
            raise CheckpointCorrupt(
                f"run {self.run_id!r}, {f'step {slot!r}' if slot else 'its output'}: {len(data)} bytes are stored as "
                f"its result, and {payload.size} were recorded. The record is corrupt; nothing was overwritten.",
                run_id=self.run_id,
                step=slot or None,
            )
        return self.chain.decode(data, self.where(slot, entry_id), payload.codec)

    def count_replay(self, done: Done) -> None:
        """A record answered a call: what it had cost is saved."""
        self.replayed.append(done)

    def commit(self, change: Change, call: Call, value: object = None) -> Protocol[Committed | Superseded]:
        """Stores a change that belongs to a call; see ``store.commit.commit`` for what it raises."""

        def same(done: Done) -> bool:
            return done.slot == call.slot and done.inputs.digest == call.inputs.digest

        done = change.entry if isinstance(change.entry, Done) else None
        try:
            outcome = yield from self._commit(change, call.slot, value, same if done is not None else None)
        except (RunDeleted, CheckpointsLost, CheckpointCorrupt, CommitUnknown) as exc:
            if done is not None or not isinstance(exc, CommitUnknown):
                self.broken = exc
            raise
        if isinstance(outcome, Superseded):  # noted here, since a cancelled caller may not come back to do it
            self.journal.replayed(call)
        elif done is not None:
            self.journal.record(call, done)
        return outcome

    def _commit(
        self, change: Change, slot: str | None, value: object, same: Callable[[Done], bool] | None
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
        except LeaseLost:
            # The last one of an intent was not sent, and now it will not be.
            yield from self._book_waste(entries[:-1] if isinstance(change.entry, Intent) else entries)
            raise
        finally:
            self._say_if_rolled_back()
        if isinstance(outcome, Superseded):
            yield from self._book_waste(entries)
            return outcome
        self.money.update((entry.id, entry) for entry in entries)
        self.state = fields.get("state", self.state)
        for observe in after_commit:
            observe(self, change)
        return outcome

    def _book_waste(self, entries: tuple[LedgerEntry, ...]) -> Protocol[None]:
        """Books what this worker paid for nothing: the run is another's now."""
        wasted = ledger.as_waste(entries)
        try:
            yield from book_waste(self.fence, wasted)
        except StoreError as trouble:
            warn(
                f"run {self.run_id!r}: what this worker paid could not be booked as wasted: {trouble}",
                AgentCheckpointWarning,
            )
        self.waste.update((entry.id, entry) for entry in wasted)

    def _say_if_rolled_back(self) -> None:
        if self.fence.went_back:
            self.fence.went_back = False
            warn(
                f"run {self.run_id!r}: the server had forgotten that this worker claimed the run, so it was rolled "
                "back (a failover to a lagging replica, or a restart without fsync). All that this worker knows to "
                "be committed is still there; what other workers committed meanwhile may not be.",
                DurabilityWarning,
            )

    # -- account --------------------------------------------------------------------------------------------------

    def cost(self) -> ledger.CostReport:
        """What was spent on this run so far, by all its attempts, and what this attempt saved by replaying."""
        money, replayed = dict(self.money), tuple(self.replayed)  # other threads may be at them
        bought = [money[entry.id].cost for done in replayed for entry in done.entries if entry.id in money]
        priced = [cost for cost in bought if cost is not None]
        return ledger.report(
            ledger.fold_entries(money.values(), dict(self.waste).values()),
            saved=sum(priced),
            replayed=len(replayed),
            saved_unpriced=len(bought) - len(priced),
        )

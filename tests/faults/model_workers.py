"""The model's workers: what each may do to the run, and what it may conclude from what it is told."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from agentcheckpoint.attempt import new_id
from agentcheckpoint.core.ledger import as_waste
from agentcheckpoint.core.models import Closed, Done, Inputs, LedgerEntry, Logged, Payload, Rejected
from agentcheckpoint.current import released_here, withdraw
from agentcheckpoint.errors import (
    AgentCheckpointWarning,
    CheckpointCorrupt,
    CheckpointsLost,
    CommitUnknown,
    LeaseLost,
    RunBusy,
    RunDeleted,
    RunNotFound,
    StoreUnavailable,
)
from agentcheckpoint.store import upkeep
from agentcheckpoint.store.commit import Change, Committed, Superseded
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.leases import Busy
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.reading import Address, read_results, snapshot
from agentcheckpoint.taking import end_attempt, take_run

from .model_courses import Course, Courses, Worker

WORKERS = 3
SLOTS = 5
IN_FLIGHT = 4
ONE_OF_THEM = st.integers(0, WORKERS - 1)
A_SLOT = st.integers(1, SLOTS)
COMMITS = ("commit", "reject", "close")
"""The courses that end in a commit."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What somebody who only looked has seen."""

    loaded: Loaded
    results: dict[str, bytes]


def read_all(address: Address) -> Protocol[Reading]:
    """The run and all its results."""
    loaded = yield from snapshot(address)
    ids = [entry.id for entry in loaded.entries if isinstance(entry, Done)]
    return Reading(loaded, (yield from read_results(address, loaded.token, ids)) if ids else {})


_COMMIT_ENDS = (LeaseLost, RunDeleted, CommitUnknown, StoreUnavailable)
MAY_END: dict[str, tuple[type, ...]] = {
    "open": (type(None), RunBusy, RunDeleted, CommitUnknown, StoreUnavailable),
    "commit": (Committed, Superseded, *_COMMIT_ENDS),
    "reject": (Committed, *_COMMIT_ENDS),
    "close": (type(None), *_COMMIT_ENDS),
    "renew": (type(None),),
    "sweep": (int,),
    "delete": (type(None), Busy, RunNotFound, StoreUnavailable),
    "look": (Reading, RunNotFound, StoreUnavailable),
}
"""How each course may end while the server loses nothing."""


class Workers(Courses):
    """What each worker does, and what it may conclude."""

    commit_through: ClassVar[Callable[[Generator[Any, Any, Any], Fence], Generator[Any, Any, Any]] | None] = None
    """Wraps each commit: a second implementation."""

    def __init__(self) -> None:
        super().__init__()
        self.workers = [self.hire() for _ in range(WORKERS)]
        self.entries: dict[str, Logged] = {}

    # -- the workers ----------------------------------------------------------------------------------------------

    @initialize()
    def one_is_at_work(self) -> None:
        self.begin_to_open(0)
        self.let_it_end(self.courses[0])

    @rule(worker=ONE_OF_THEM)
    def begin_to_open(self, worker: int) -> None:
        """A worker that is at it goes on; one that lost the run, or has left it, opens it again."""
        me = self.workers[worker]
        if me.at_work or self._under_way(me, "open"):
            return
        withdraw(me.attempt)
        me = self.workers[worker] = self.hire()
        self.start("open", me, take_run(me.attempt, 0))

    @rule(worker=ONE_OF_THEM, slot=A_SLOT, cost=st.integers(1, 9))
    def begin_to_commit(self, worker: int, slot: int, cost: int) -> None:
        me, name = self.workers[worker], f"s[{slot}]"
        if not me.at_work or name in me.met or len(self._under_way(me, *COMMITS)) >= IN_FLIGHT:
            return
        bought = LedgerEntry(id=new_id(), bill="paid", slot=name, cost=cost)
        inputs, payload = Inputs(digest="same"), Payload(size=3)
        done = Done(id=new_id(), at=2, slot=name, inputs=inputs, payload=payload, entries=(bought,))
        me.met[name] = done  # one commit per slot and process
        self._commit("commit", me, name, Change(done, done.id.encode()))

    @rule(worker=ONE_OF_THEM, first=A_SLOT)
    def begin_to_commit_side_by_side(self, worker: int, first: int) -> None:
        for n in range(IN_FLIGHT):
            self.begin_to_commit(worker, (first + n) % SLOTS + 1, 1 + n)

    @rule(worker=ONE_OF_THEM, which=st.integers(0, SLOTS))
    def begin_to_reject(self, worker: int, which: int) -> None:
        """A recorded answer is refused: its money is wasted, and its slot open again."""
        me = self.workers[worker]
        busy = {c.change.entry.slot for c in self._under_way(me, "reject")}
        recorded = [d for d in me.met.values() if d.id in me.fence.committed and d.slot not in busy]
        if not me.at_work or not recorded or len(self._under_way(me, *COMMITS)) >= IN_FLIGHT:
            return
        done = recorded[which % len(recorded)]
        refused = Rejected(
            id=new_id(), at=3, slot=done.slot, target=done.id, why="bad", entries=tuple(as_waste(done.entries))
        )
        self._commit("reject", me, done.slot, Change(refused))

    def _under_way(self, me: Worker, *kinds: str) -> list[Course]:
        return [course for course in self.courses if course.worker is me and course.kind in kinds]

    def _commit(self, kind: str, me: Worker, slot: str, change: Change) -> None:
        def same(done: Done) -> bool:
            return done.slot == slot and done.inputs.digest == "same"

        record = same if kind == "commit" else None
        protocol = me.attempt.store_change(change, slot, change.entry.id, record)
        self._start_commit(kind, me, protocol, change)

    def _start_commit(self, kind: str, me: Worker, protocol: Generator[Any, Any, Any], change: Change) -> None:
        self.entries[change.entry.id] = change.entry
        self.truth.begins(change, me.fence)
        through = type(self).commit_through
        self.start(kind, me, protocol if through is None else through(protocol, me.fence), change)
        self.note(f"{len(self._under_way(me, *COMMITS))} in flight")

    @rule(worker=ONE_OF_THEM)
    def begin_to_finish(self, worker: int) -> None:
        me = self.workers[worker]
        if not me.at_work or self._under_way(me, "renew"):  # both hold the attempt's lock
            return
        me.leaving = True
        closed = Closed(id=new_id(), at=4, state="completed")
        self._start_commit("close", me, end_attempt(me.attempt, closed), Change(closed))

    @rule(worker=ONE_OF_THEM)
    def begin_to_renew(self, worker: int) -> None:
        me = self.workers[worker]
        if me.attempt.open and not me.leaving and not self._under_way(me, "renew"):
            self.start("renew", me, upkeep.renew(me.fence))

    @rule(worker=ONE_OF_THEM)
    def begin_to_sweep(self, worker: int) -> None:
        me = self.workers[worker]
        if me.fence.issued and not self._under_way(me, "sweep"):
            self.start("sweep", me, upkeep.sweep(me.fence))

    @rule(worker=ONE_OF_THEM)
    def begin_to_look(self, worker: int) -> None:
        me = self.workers[worker]
        if not self._under_way(me, "look"):
            self.start("look", me, read_all(me.fence))

    @precondition(lambda self: len(self.truth.world.log) > SLOTS)
    @rule(worker=ONE_OF_THEM, rare=st.integers(0, 3), stamp=st.integers(1, 9))
    def begin_to_delete(self, worker: int, rare: int, stamp: int) -> None:
        me = self.workers[worker]
        if rare == 3 and not self._under_way(me, "delete"):
            self.start("delete", me, upkeep.delete_run(me.fence, str(stamp), released_here))

    # -- what they may conclude -----------------------------------------------------------------------------------

    def arrived(self, sender: Fence | None) -> None:
        self.truth.a_packet_arrived(sender)

    def ended(self, course: Course, outcome: Any) -> None:
        said = (str(outcome), *getattr(outcome, "__notes__", ()))
        unbooked = any("could not be booked" in line for line in said)
        if unbooked and isinstance(outcome, AgentCheckpointWarning):  # it is an error here, and hides what it followed
            outcome = LeaseLost(str(outcome), value=course.change and course.change.entry.id)
        self.judge(course, outcome, unbooked)

    def judge(self, course: Course, outcome: Any, unbooked: bool) -> None:
        """Whether a worker may be told this, and what it makes of it."""
        assert isinstance(outcome, self.may_end(course)), f"{course.kind} ended with {outcome!r}"
        if isinstance(outcome, RunDeleted | RunNotFound):
            assert self.truth.deleted or self.age, "said to be deleted, and it is not"
        if course.change is not None:
            self._a_commit_ended(course, course.change, outcome)
            if isinstance(outcome, LeaseLost | Superseded) and not unbooked:
                self.truth.waste_is_booked(bought.id for bought in getattr(course.change.entry, "entries", ()))
        elif course.kind == "open":
            self._it_was_opened(course, outcome)
        elif isinstance(outcome, Reading):
            self._it_was_read(course, outcome)

    def may_end(self, course: Course) -> tuple[type, ...]:
        return MAY_END[course.kind]

    def _a_commit_ended(self, course: Course, change: Change, outcome: Any) -> None:
        me, entry = course.worker, change.entry
        if course.kind == "close":
            withdraw(me.attempt)
            outcome = Committed() if outcome is None else outcome
        if isinstance(outcome, Committed):
            assert not self._is_deleted_for(course), "begun after the deletion, and acknowledged"
        if isinstance(outcome, Superseded):
            assert outcome.entry.id not in course.refused, "a record that had been rejected is handed out"
        if course.kind != "close" and not isinstance(outcome, Committed | Superseded):
            assert outcome.value == entry.id, "the paid result is in the error"
        self.truth.a_worker_was_told(change, outcome)
        if isinstance(outcome, RunDeleted | CommitUnknown | CheckpointsLost | CheckpointCorrupt):
            me.attempt.broken = outcome  # as Attempt.commit does
        if isinstance(entry, Done) and isinstance(outcome, StoreUnavailable):
            del me.met[entry.slot]
        if isinstance(entry, Done) and isinstance(outcome, Superseded):
            me.met[entry.slot] = outcome.entry
        if isinstance(entry, Rejected) and isinstance(outcome, Committed):
            del me.met[entry.slot]

    def _is_deleted_for(self, course: Course) -> bool:
        """The run was deleted before this began, and has not been put back since."""
        return course.deleted and course.age == self.age

    def _it_was_opened(self, course: Course, outcome: Any) -> None:
        me = course.worker
        if outcome is not None:
            withdraw(me.attempt)
            return
        assert not self._is_deleted_for(course), "a deleted run was opened"
        found = me.fence.committed
        assert course.known & self.truth.acknowledged <= found, "acknowledged, and not found by who opened the run"
        assert found <= self.truth.stored | self.truth.vanished
        entries = [entry for entry in self.entries.values() if entry.id in found]  # in an order that a seed repeats
        refused = {entry.target for entry in entries if isinstance(entry, Rejected)}
        me.met = {entry.slot: entry for entry in entries if isinstance(entry, Done) and entry.id not in refused}

    def _it_was_read(self, course: Course, reading: Reading) -> None:
        if course.age != self.age:
            return  # it may have seen the run before it was put back
        ids = [entry.id for entry in reading.loaded.entries]
        assert course.known & self.truth.acknowledged <= set(ids), "acknowledged, and not shown"
        assert self.truth.deleted or ids == self.truth.world.ids[: len(ids)], "what was shown is not the log"
        assert all(value == entry_id.encode() for entry_id, value in reading.results.items())

"""The model: three workers at one run, each with commits side by side, and the courses of events that hurt."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from .model_courses import FATES, Course
from .model_network import Fate
from .model_workers import A_SLOT, ONE_OF_THEM, SLOTS, WORKERS, Workers
from .model_world import left_of

A_DEED = st.sampled_from(["open", "commit", "reject", "renew", "sweep", "delete", "look"])
MOST = st.integers(1, 3)


class Model(Workers):
    """What may happen to the workers, to the server, and between two of their packets."""

    @rule(zombie=ONE_OF_THEM, worker=ONE_OF_THEM, slot=A_SLOT, rejects=st.booleans(), hears=st.booleans())
    def an_heir_takes_over_and_does_a_step(
        self, zombie: int, worker: int, slot: int, rejects: bool, hears: bool
    ) -> None:
        """The step is one that the worker before it is at, if there is one, who may hear of it then."""
        before = len(self.courses)
        self.begin_to_commit_side_by_side(zombie, slot - 1)
        begun = self.courses[before:]
        self.the_lease_expires()
        self._at_once(lambda: self.begin_to_open(worker))
        self._at_once(lambda: self.begin_to_commit(worker, slot, 1))
        if rejects:
            self._at_once(lambda: self.begin_to_reject(worker, slot))
        for course in begun if hears else ():
            self._end_with_an_unanswered_booking(course)

    def _end_with_an_unanswered_booking(self, course: Course) -> None:
        """What was paid for nothing is booked, and the reply to that is lost once."""
        while course in self.courses and not (course.out and course.effect.commands[0][0] == "HSETNX"):
            if not self.go_on(course):
                return
        if course in self.courses:
            self.doom(course, "reply lost")
            self.let_it_end(course)

    @rule(worker=ONE_OF_THEM, first=A_SLOT, fate=st.sampled_from(FATES))
    def a_settlement_overtakes_its_siblings(self, worker: int, first: int, fate: Fate) -> None:
        """Commits are out side by side; the doubts about one are settled before the others reach the server."""
        before = len(self.courses)
        self.begin_to_commit_side_by_side(worker, first)
        for course in [c for c in self.courses[before:] if c.out][:1]:
            self.doom(course, fate)
            self.let_it_end(course)

    @rule(one=st.tuples(A_DEED, ONE_OF_THEM), other=st.tuples(A_DEED, ONE_OF_THEM), expired=st.booleans(), packets=MOST)
    def one_overtakes_another(self, one: tuple[str, int], other: tuple[str, int], expired: bool, packets: int) -> None:
        """The one stands still after so many packets; the other is quick; then the one goes on."""
        if expired:
            self.the_lease_expires()
        before = len(self.courses)
        self._begin(*one)
        begun = self.courses[before:]
        for course in begun * packets:
            if course in self.courses:
                self.go_on(course)
        self._at_once(lambda: self._begin(*other))
        for course in begun:
            self.let_it_end(course)

    @rule(one=st.sampled_from(["open", "delete"]), other=st.sampled_from(["open", "renew"]), worker=ONE_OF_THEM)
    def a_claim_or_a_deletion_meets_a_sign_of_life(self, one: str, other: str, worker: int) -> None:
        """It has found no lease, and is about to take the run, or to delete it."""
        self.one_overtakes_another((one, worker), (other, worker), expired=True, packets=2)

    def _begin(self, deed: str, which: int) -> None:
        """By one of those who can."""
        anybody = deed in ("sweep", "delete", "look")
        can = [n for n, me in enumerate(self.workers) if anybody or me.at_work == (deed != "open")]
        worker = can[which % len(can)] if can else which
        if deed == "commit":
            self.begin_to_commit_side_by_side(worker, worker)
        elif deed == "reject":
            self.begin_to_reject(worker, 0)
        elif deed == "delete":
            self.begin_to_delete(worker, rare=3, stamp=1)
        else:
            getattr(self, f"begin_to_{deed}")(worker)

    @precondition(lambda self: len(self.truth.world.log) > SLOTS)
    @rule(worker=ONE_OF_THEM, rare=st.integers(0, 3))
    def the_run_is_deleted_under_its_workers(self, worker: int, rare: int) -> None:
        if rare == 3:
            self.the_lease_expires()
            self._at_once(lambda: self.begin_to_delete(worker, rare=3, stamp=1))
            for n in range(WORKERS):
                self.begin_to_commit_side_by_side(n, worker)

    def _at_once(self, begin: Callable[[], None]) -> None:
        """What it begins meets no fault."""
        before = len(self.courses)
        begin()
        for course in self.courses[before:]:
            self.let_it_end(course)

    @rule(worker=ONE_OF_THEM)
    def crash(self, worker: int) -> None:
        self.dismiss(self.workers[worker])
        self.workers[worker] = self.hire()

    # -- the server's own time, and other people ------------------------------------------------------------------

    @rule()
    def the_lease_expires(self) -> None:
        if self.truth.world.head is not None:
            self.truth.wire.exchange((("DEL", self.keys.lease(self.truth.world.head)),))
            self.arrived(None)

    @rule(which=st.integers(0, 2))
    def somebody_sets_a_time_to_live(self, which: int) -> None:
        if self.truth.world.head is not None:
            self.truth.wire.exchange((("PEXPIRE", self.keys.data(self.truth.world.head)[which], 3_600_000),))

    @rule(rare=st.integers(0, 5))
    def all_comes_to_rest(self, rare: int) -> None:
        """Nothing is under way any more: then each worker takes away what it wrote to dead names."""
        if rare < 5:
            return
        while self.courses:
            for course in list(self.courses):
                self.let_it_end(course)
        while self.network.ghosts:
            self.a_late_packet_arrives(0)
        for me in self.workers:
            self._at_once(lambda: self.begin_to_sweep(self.workers.index(me)))  # noqa: B023
            old = [token for token in me.fence.issued if token != self.truth.world.head]
            left = left_of(self.truth.wire, self.keys, old)
            assert not left, f"left by a worker that has swept: {left}"
        self.note("at rest")

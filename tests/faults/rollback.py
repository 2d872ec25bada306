"""The engine "rollback": the server forgets. A failover to a replica that lags, a restart without fsync, the restore of
a backup, the eviction of a key, and a foreign program that writes where it must not.

Fewer things can hold than in the model: what is gone is gone. But who was told that something is stored must notice
that it is gone, before he is told more; nobody else's write may land in what stands there now; and a run of which a
part is missing is opened by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentcheckpoint.current import withdraw
from agentcheckpoint.errors import (
    CheckpointCorrupt,
    CheckpointsLost,
    CommitUnknown,
    LeaseLost,
    RunDeleted,
    StoreRefused,
)
from agentcheckpoint.store.commit import Change, Committed
from agentcheckpoint.store.fence import Fence

from .model_courses import FATES, Course
from .model_machine import MOST, Model
from .model_network import Fate
from .model_search import play
from .model_workers import COMMITS, ONE_OF_THEM, SLOTS, WORKERS
from .tally import Tally

VITAL = ("head", "log", "results", "meta")
"""The keys without which a run is not opened."""
BAD_NEWS = (CheckpointsLost, CheckpointCorrupt, StoreRefused)


@dataclass(frozen=True, slots=True)
class Backup:
    """All keys of the run at one moment, and who had claimed it last."""

    owner: Fence | None
    dumps: dict[str, bytes]


class Rollback(Model):
    """The model, on a server that loses data."""

    tolerated = ".*(the server had forgotten|its stored totals)"

    def __init__(self) -> None:
        super().__init__()
        self.backups: list[Backup] = []
        self.damaged: str | None = None
        """Which key was evicted, or overwritten."""
        self.overwritten = False
        self.delivered: dict[str, bool] = {}
        """Of each commit that reached the current world: something was missing then that its worker knew of."""
        self.told: dict[Fence, set[str]] = {}
        """What each worker knows to be stored: by its acknowledgements, and by the load it was opened with."""
        self.warned: set[Fence] = set()
        """Workers that were told to stop: after that they begin no more commits."""
        self.unheard: dict[Fence, set[str]] = {}
        """Commits that were acknowledged to a worker while something was missing that it knew of."""

    # -- the server -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.truth.world.head is not None and self.damaged is None)
    @rule()
    def a_backup_is_made(self) -> None:
        """Or a replica falls behind from here on."""
        dumps = {}
        for name in self._names():
            (dump,) = self.truth.wire.exchange((("DUMP", name),))
            if dump is not None:
                dumps[name] = dump
        self.backups.append(Backup(self.truth.owner, dumps))

    @precondition(lambda self: self.backups and self.damaged is None)
    @rule(which=st.integers(0, 9), connections_live=st.booleans())
    def it_goes_back(self, which: int, connections_live: bool) -> None:
        """No packet outlives this: a proxy that keeps packets is outside of what is promised."""
        self.age += 1
        self.note("went back")
        self.network.ghosts.clear()
        if not connections_live:
            for worker in self.hired:
                worker.driver.close()
            for course in self.courses:
                for wire in course.held:
                    wire._connection.cut()
        backup = self.backups[which % len(self.backups)]
        restores = [("RESTORE", name, 0, dump) for name, dump in backup.dumps.items()]
        self.truth.wire.exchange((("MULTI",), ("DEL", *self._names()), *restores, ("EXEC",)))
        self.truth.it_was_put_back(backup.owner)

    @rule(worker=ONE_OF_THEM, which=st.integers(0, 9), packets=MOST, deed=st.sampled_from(["sweep", "open"]))
    def it_goes_back_meanwhile(self, worker: int, which: int, packets: int, deed: str) -> None:
        """Between two packets of a worker's."""
        if not self.backups or self.damaged is not None:
            return
        before = len(self.courses)
        self._begin(deed, worker)
        begun = self.courses[before:]
        for course in begun * packets:
            if course in self.courses:
                self.go_on(course)
        self.it_goes_back(which, connections_live=True)
        for course in begun:
            self.let_it_end(course)

    @rule(worker=ONE_OF_THEM, other=ONE_OF_THEM, claims=st.booleans(), fate=st.sampled_from((None, *FATES)))
    def it_forgets_what_was_done(self, worker: int, other: int, claims: bool, fate: Fate | None) -> None:
        """What a worker did is gone, its claim too if it was new; perhaps another claims; then the worker goes on."""
        if self.truth.world.head is None or self.damaged is not None:
            return
        self.a_backup_is_made()
        self.the_lease_expires()
        self._at_once(lambda: self.begin_to_open(worker))
        free = [slot for slot in range(1, SLOTS + 1) if f"s[{slot}]" not in self.workers[worker].met]
        self._at_once(lambda: self.begin_to_commit(worker, free[0] if free else 1, 1))
        self.it_goes_back(len(self.backups) - 1, connections_live=False)
        if claims:
            self.the_lease_expires()
            self._at_once(lambda: self.begin_to_open(other))
        before = len(self.courses)
        self.begin_to_commit_side_by_side(worker, 0)
        for course in self.courses[before:]:
            if fate is not None and course.out:
                self.doom(course, fate)
                self.let_it_end(course)

    @rule(worker=ONE_OF_THEM, heir=ONE_OF_THEM)
    def an_old_head_comes_back_during_a_sweep(self, worker: int, heir: int) -> None:
        """Between the look and the deletion what was an orphan has become the run."""
        for n in (worker, heir):
            self.the_lease_expires()
            self._at_once(lambda: self.begin_to_open(n))  # noqa: B023
            if n == worker and self.truth.world.head is not None and self.damaged is None:
                self.a_backup_is_made()
        self.it_goes_back_meanwhile(worker, len(self.backups) - 1, 1, "sweep")

    @precondition(lambda self: self.truth.world.head is not None and self.damaged is None)
    @rule(name=st.sampled_from(VITAL))
    def a_key_is_evicted(self, name: str) -> None:
        self._lose(name, overwritten=False)

    @precondition(lambda self: self.truth.world.head is not None and self.damaged is None)
    @rule(name=st.sampled_from(VITAL))
    def a_key_is_overwritten(self, name: str) -> None:
        self._lose(name, overwritten=True)

    def _lose(self, name: str, *, overwritten: bool) -> None:
        """And then all try to go on."""
        if len(self.truth.world.log) < 3:
            return
        self.age += 1
        self.damaged, self.overwritten = name, overwritten
        self.note("key overwritten" if overwritten else "key evicted")
        head = self.truth.world.head
        key = self.keys.head if name == "head" else getattr(self.keys, name)(head)
        self.truth.wire.exchange((("SET", key, "somebody else's"),) if overwritten else (("DEL", key),))
        for worker in range(WORKERS):
            self._at_once(lambda: self.begin_to_commit_side_by_side(worker, 0))  # noqa: B023
        self.truth.wire.exchange((("DEL", self.keys.lease(str(head))),))
        for worker in range(WORKERS):
            self._at_once(lambda: self.begin_to_open(worker))  # noqa: B023

    def _names(self) -> list[str]:
        tokens = {token for fence in self.truth.fences for token in fence.issued}
        data = [name for token in sorted(tokens) for name in (*self.keys.data(token), self.keys.lease(token))]
        return [self.keys.head, self.keys.tokens, self.keys.waste, self.keys.tomb, *data]

    @rule(rare=st.integers(0, 5))
    def all_comes_to_rest(self, rare: int) -> None:
        if self.damaged is None:
            super().all_comes_to_rest(rare)

    # -- what must hold -------------------------------------------------------------------------------------------

    def arrived(self, sender: Fence | None) -> None:
        if self.damaged is not None:
            return
        for entry_id in self.truth.a_packet_arrived(sender):
            author = self.truth.authors.get(entry_id)
            self.delivered[entry_id] = author is not None and bool(self._missed(author))

    def _missed(self, worker: Fence) -> set[str]:
        """What a worker knows to be stored, and is gone."""
        return self.told.get(worker, set()) & self.truth.vanished

    def may_end(self, course: Course) -> tuple[type, ...]:
        ends = super().may_end(course)
        if self.damaged is not None and course.age == self.age and course.kind in ("open", "look"):
            return (*ends[1:], *BAD_NEWS)  # anything but success
        return (*ends, *BAD_NEWS) if self.age else ends

    def judge(self, course: Course, outcome: Any, unbooked: bool) -> None:
        if self.damaged is None:
            super().judge(course, outcome, unbooked)
        else:
            assert isinstance(outcome, self.may_end(course)), f"{self.damaged} is gone: {course.kind}: {outcome!r}"
            self._settle_with(course, outcome)
        if course.change is not None:
            self._more_was_said(course, course.change, outcome)
        elif course.kind == "open" and outcome is None:
            self.told[course.worker.fence] = set(course.worker.fence.committed)

    def _settle_with(self, course: Course, outcome: Any) -> None:
        """The worker draws its conclusions; what is stored is judged no more."""
        me = course.worker
        if course.kind in ("open", "close") and (course.kind == "close" or outcome is not None):
            withdraw(me.attempt)
        if isinstance(outcome, BAD_NEWS) and course.change is not None:
            me.attempt.broken = outcome

    def _more_was_said(self, course: Course, change: Change, outcome: Any) -> None:
        """Commits side by side may hide a loss from each other, but not beyond the last of them."""
        fence, entry_id = course.worker.fence, change.entry.id
        said = isinstance(outcome, Committed) or (course.kind == "close" and outcome is None)
        if isinstance(outcome, (*BAD_NEWS, LeaseLost, RunDeleted, CommitUnknown)):
            self.warned.add(fence)
        if said:
            self.told.setdefault(fence, set()).add(entry_id)
        if said and (self.delivered.get(entry_id, False) or (course.age == self.age and self._touches(change))):
            self.unheard.setdefault(fence, set()).add(entry_id)
        at_rest = not self._under_way(course.worker, *COMMITS)
        if at_rest and fence not in self.warned and (self._missed(fence) or self.damaged is not None):
            assert not self.unheard.get(fence), "acknowledged more, and was never told of what is gone"

    def _touches(self, change: Change) -> bool:
        """Whether a commit writes to what was damaged, so that its reply must tell."""
        key = self.damaged
        counts = self.overwritten and bool(getattr(change.entry, "entries", ()))
        return key in ("head", "log") or (key == "results" and change.result is not None) or (key == "meta" and counts)


def search(examples: int, number: int = 0, url: str | None = None, *, shrink: bool = False) -> Tally:
    """Plays about so many examples; see ``model_search.play``."""
    return play("rollback", Rollback, examples, number, url, shrink=shrink)


def replay(seed: str) -> Tally:
    """Plays again what a violation's seed names, and makes it as short as can be."""
    number, _, examples = seed.partition("x")
    return search(int(examples), int(number), shrink=True)

"""The commit protocol against a model: three workers, commits of one run side by side, and a network that does it all.

Every packet is a message of its own: delivered late, answered late, cut before or after, or delivered long after its
sender has given it up. The same machine runs on the library's commit and on a slow second implementation that watches
the head in every commit; and, as a negative control, on a commit that sends an unanswered packet again.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic_core import from_json

from agentcheckpoint.attempt import new_id, new_token
from agentcheckpoint.core.models import Birth, Done, Inputs, Opened, Payload
from agentcheckpoint.errors import CheckpointsLost, CommitUnknown, LeaseLost, StoreUnavailable
from agentcheckpoint.store.claim import Busy, Opening, Taken, open_run
from agentcheckpoint.store.commit import Change, Committed, Superseded, commit
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Await, Lost, NotSent, Packet, Pause
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.memory import dial_memory

WORKERS = 3
SLOTS = 5
IN_FLIGHT = 4


def watched(protocol: Generator[Any, Any, Any], fence: Fence) -> Generator[Any, Any, Any]:
    """The slow second implementation: each commit looks at the head first and watches it until its EXEC."""
    effect = next(protocol)
    while True:
        try:
            if isinstance(effect, Packet) and not effect.held and effect.commands[1][0] == "RPUSH":
                reply = yield from _under_watch(effect, fence)
            else:
                reply = yield effect
        except (NotSent, Lost) as exc:
            effect = protocol.throw(exc)
            continue
        except GeneratorExit:
            protocol.close()
            raise
        try:
            effect = protocol.send(reply)
        except StopIteration as stop:
            return stop.value


def _under_watch(packet: Packet, fence: Fence) -> Generator[Any, Any, list[Any]]:
    token = str(packet.commands[1][1]).split(":")[2]
    while True:
        _, head = yield Packet((("WATCH", fence.keys.head), ("GET", fence.keys.head)), held=True)
        if head != token.encode():  # what the packet would have answered: applied to dead names, and the head
            return [b"OK", *[b"QUEUED"] * (len(packet.commands) - 2), [None] * (len(packet.commands) - 3) + [head]]
        replies: list[Any] = yield Packet(packet.commands, held=True)
        if replies[-1] is not None:
            return replies


def sending_again(protocol: Generator[Any, Any, Any], fence: Fence) -> Generator[Any, Any, Any]:
    """What a client's own retries do: an unanswered commit is sent once more as it was."""
    effect = next(protocol)
    while True:
        try:
            try:
                reply = yield effect
            except Lost:
                if effect.held:
                    raise
                reply = yield effect
        except (NotSent, Lost) as exc:
            effect = protocol.throw(exc)
            continue
        except GeneratorExit:
            protocol.close()
            raise
        try:
            effect = protocol.send(reply)
        except StopIteration as stop:
            return stop.value


@dataclass(eq=False)
class Course:
    """One generator under way, with its connection and the packet that is out."""

    worker: int
    fence: Fence
    protocol: Generator[Any, Any, Any]
    change: Change | None
    effect: Any = None
    replies: list[Any] | None = None
    wire: Any = None
    outcome: Any = None


@dataclass
class Worker:
    """A process that works on the run, or did."""

    fence: Fence | None = None
    open: bool = False
    ordinal: int = 0
    met: set[str] = field(default_factory=set)


class Model(RuleBasedStateMachine):
    """See the module's docstring."""

    commit_through: Any = None
    reached: ClassVar[Counter[str]] = Counter()
    most_in_flight = 0

    def __init__(self) -> None:
        super().__init__()
        self.dial = self.new_dial()
        self.keys = RunKeys(secrets.token_hex(12))
        self.redis = self.dial.open()
        self.workers = [Worker() for _ in range(WORKERS)]
        self.courses: list[Course] = []
        self.ghosts: list[tuple[Any, Packet]] = []
        self.outcomes: dict[str, Any] = {}
        self.changes: dict[str, Change] = {}
        self.log: list[bytes] = []

    @staticmethod
    def new_dial() -> Dial:
        return dial_memory(f"memory://{secrets.token_hex(8)}")

    # -- the workers ----------------------------------------------------------------------------------------------

    @initialize()
    def one_is_at_work(self) -> None:
        self.begin_to_open(0)
        self.all_goes_well(0)

    @rule(worker=st.integers(0, WORKERS - 1))
    def begin_to_open(self, worker: int) -> None:
        me = self.workers[worker]
        if me.open and me.fence is not None and me.fence.heir is None:
            return
        if any(c.change is None and c.worker == worker for c in self.courses):
            return
        fence = Fence(self.keys, "default", "model")
        fence.holder = b'{"host":"h","boot":"b","pidns":"n","pid":1,"start":1,"note":"%d"}' % worker
        self.workers[worker] = Worker(fence)
        opening = Opening(
            Birth(id=new_id(), at=1, namespace="default", run="model"),
            lambda n: Opened(id=new_id(), at=1, attempt=n, worker=str(worker)),
            lambda holder: not self._is_alive(holder),
        )
        self._start(Course(worker, fence, open_run(fence, new_token, opening), None))

    def _is_alive(self, holder: Holder) -> bool:
        return self.workers[int(holder.note)].open

    @rule(worker=st.integers(0, WORKERS - 1), slot=st.integers(1, SLOTS), cost=st.integers(1, 9))
    def begin_to_commit(self, worker: int, slot: int, cost: int) -> None:
        me = self.workers[worker]
        under_way = [c for c in self.courses if c.fence is me.fence and c.change is not None]
        name = f"s[{slot}]"
        if not me.open or me.fence is None or me.fence.heir or len(under_way) >= IN_FLIGHT or name in me.met:
            return
        me.met.add(name)  # one commit per slot and process
        done = Done(id=new_id(), at=2, slot=name, inputs=Inputs(digest="same"), payload=Payload(size=3))
        change = Change(done, done.id.encode(), {"paid": cost})
        self.changes[done.id] = change
        same = lambda entry: entry.slot == name and entry.inputs.digest == "same"  # noqa: E731
        protocol = commit(me.fence, change, new_token, step=name, value=done.id, same=same)
        if self.commit_through is not None:
            protocol = type(self).commit_through(protocol, me.fence)
        self._start(Course(worker, me.fence, protocol, change))
        Model.most_in_flight = max(Model.most_in_flight, len(under_way) + 1)

    @rule(worker=st.integers(0, WORKERS - 1), slot=st.integers(1, SLOTS))
    def an_heir_takes_over_and_does_a_step(self, worker: int, slot: int) -> None:
        self.the_lease_expires()
        self.begin_to_open(worker)
        self.all_goes_well(len(self.courses) - 1) if self.courses else None
        before = len(self.courses)
        self.begin_to_commit(worker, slot, 1)
        if len(self.courses) > before:
            self.all_goes_well(before)

    @rule(worker=st.integers(0, WORKERS - 1))
    def crash(self, worker: int) -> None:
        """The process is gone; its packets may still arrive."""
        me = self.workers[worker]
        for course in [c for c in self.courses if c.fence is me.fence]:
            self.courses.remove(course)
            if isinstance(course.effect, Packet) and course.replies is None:
                self.ghosts.append((course.wire or self.dial.open(), course.effect))
        self.workers[worker] = Worker()

    @rule()
    def the_lease_expires(self) -> None:
        head = self._ask("GET", self.keys.head)
        if head:
            self._ask("DEL", self.keys.lease(head.decode()))

    # -- the network ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.courses)
    @rule(which=st.integers(0, 50))
    def a_packet_is_answered(self, which: int) -> None:
        course = self.courses[which % len(self.courses)]
        if not isinstance(course.effect, Packet):
            self._advance(course)
            return
        replies = course.replies or self._deliver(self._wire(course), course.effect)
        course.replies = None
        self._send(course, replies)

    @precondition(lambda self: self.courses)
    @rule(which=st.integers(0, 50))
    def all_goes_well(self, which: int) -> None:
        course = self.courses[which % len(self.courses)]
        for _ in range(40):
            if course not in self.courses or (isinstance(course.effect, Await) and not course.effect.future.done()):
                return
            self.a_packet_is_answered(self.courses.index(course))

    @precondition(lambda self: any(isinstance(c.effect, Packet) for c in self.courses))
    @rule(which=st.integers(0, 50), fate=st.sampled_from(["delivered", "reply lost", "request lost", "late", "unsent"]))
    def the_network_is_unkind(self, which: int, fate: str) -> None:
        out = [c for c in self.courses if isinstance(c.effect, Packet)]
        course = out[which % len(out)]
        if course.replies is None and fate in ("delivered", "reply lost"):
            course.replies = self._deliver(self._wire(course), course.effect)
        if fate == "delivered":
            return
        if course.replies is None and fate == "late":
            self.ghosts.append((self._wire(course), course.effect))
        never_left = fate == "unsent" and course.replies is None
        self._fail(course, NotSent(fate) if never_left else Lost(fate))

    @precondition(lambda self: self.ghosts)
    @rule(which=st.integers(0, 20))
    def a_late_packet_arrives(self, which: int) -> None:
        wire, packet = self.ghosts.pop(which % len(self.ghosts))
        self._deliver(wire, packet)

    def _deliver(self, wire: Any, packet: Packet) -> list[Any]:
        return wire.exchange(packet.commands)

    def _wire(self, course: Course) -> Any:
        if course.wire is None or not course.effect.held:
            course.wire = self.dial.open()
        return course.wire

    def _ask(self, *command: str) -> Any:
        return self.redis.exchange((command,))[0]

    # -- driving --------------------------------------------------------------------------------------------------

    def _start(self, course: Course) -> None:
        self.courses.append(course)
        self._resume(course, lambda: next(course.protocol))

    def _send(self, course: Course, value: Any) -> None:
        self._resume(course, lambda: course.protocol.send(value))

    def _fail(self, course: Course, error: Exception) -> None:
        course.replies, course.wire = None, None
        self._resume(course, lambda: course.protocol.throw(error))

    def _advance(self, course: Course) -> None:
        if isinstance(course.effect, Pause):
            self._send(course, None)
        elif isinstance(course.effect, Await) and course.effect.future.done():
            self._send(course, course.effect.future.exception())

    def _resume(self, course: Course, step: Any) -> None:
        try:
            course.effect = step()
        except StopIteration as stop:
            self._end(course, stop.value)
        except (LeaseLost, CommitUnknown, StoreUnavailable) as exc:
            self._end(course, exc)

    def _end(self, course: Course, outcome: Any) -> None:
        self.courses.remove(course)
        if course.change is None:
            me = self.workers[course.worker]
            if isinstance(outcome, Taken) and me.fence is course.fence:
                me.open = True
                me.met = {entry.slot for entry in outcome.loaded.entries if isinstance(entry, Done)}
            assert isinstance(outcome, Taken | Busy | CommitUnknown | StoreUnavailable), outcome
            return
        entry = course.change.entry
        self.outcomes[entry.id] = outcome
        Model.reached[type(outcome).__name__] += 1
        if isinstance(outcome, LeaseLost | CommitUnknown | StoreUnavailable):
            assert outcome.value == entry.id, "the paid result is in the error"
        if isinstance(outcome, Superseded):
            assert outcome.result == outcome.entry.id.encode()
            assert outcome.entry.slot == entry.slot and outcome.entry.id != entry.id

    # -- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def the_run_is_what_was_acknowledged(self) -> None:
        head = self._ask("GET", self.keys.head)
        if head is None:
            assert not self.log
            return
        token = head.decode()
        log = self._ask("LRANGE", self.keys.log(token), "0", "-1")
        assert log[: len(self.log)] == self.log, "what was there is there, in its order"
        self.log = log
        ids = [from_json(line)["id"] for line in log]
        assert len(set(ids)) == len(ids), "no entry stands there twice"
        for entry_id, outcome in self.outcomes.items():
            if isinstance(outcome, Committed):
                assert entry_id in ids, "acknowledged, and not there"
            elif isinstance(outcome, LeaseLost | Superseded | StoreUnavailable):
                assert entry_id not in ids, "said not to be stored, and it is"
        paid = sum(self.changes[i].totals["paid"] for i in ids if i in self.changes)
        stored = self._ask("HGET", self.keys.meta(token), "paid")
        assert int(stored or 0) == paid, "each cost is counted once"
        for entry_id in ids:
            if entry_id in self.changes:
                assert self._ask("HGET", self.keys.results(token), entry_id) == entry_id.encode()
        slots = [self.changes[i].entry.slot for i in ids if i in self.changes]  # type: ignore[attr-defined]
        assert len(set(slots)) == len(slots), "a recorded step was committed again"


class WatchedModel(Model):
    commit_through = watched


class RetryingModel(Model):
    commit_through = sending_again


SEARCH = settings(
    max_examples=300,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    report_multiple_bugs=False,
)


@pytest.mark.parametrize("machine", [Model, WatchedModel], ids=["fence-by-name", "watch-in-every-commit"])
def test_nothing_is_lost_doubled_or_written_by_a_stale_worker(machine: type[Model]) -> None:
    Model.reached = Counter()
    run_state_machine_as_test(machine, settings=SEARCH)
    assert {"Committed", "LeaseLost", "Superseded"} <= set(Model.reached), "the search must reach what it judges"
    assert Model.most_in_flight >= 3


def test_the_model_notices_a_commit_that_is_sent_again() -> None:
    with pytest.raises((AssertionError, CheckpointsLost)):
        run_state_machine_as_test(RetryingModel, settings=settings(SEARCH, phases=[Phase.generate]))

"""Drives the protocol's generators one packet at a time, through the library's own thread driver, and lets the network
do its worst in between: the half of the model that knows no rule of the protocol.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import Done
from agentcheckpoint.current import announce, withdraw
from agentcheckpoint.errors import AgentCheckpointError, AgentCheckpointWarning
from agentcheckpoint.options import RunOptions
from agentcheckpoint.store.commit import Change
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Await, Lost, NotSent, Packet, Pause
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.memory import dial_memory
from agentcheckpoint.store.thread_driver import ThreadDriver
from agentcheckpoint.store.wire import Wire

from .model_network import Fate, Network
from .model_truth import Truth

FATES: tuple[Fate, ...] = ("request lost", "reply lost", "late", "unreachable")
READING = frozenset({"WATCH", "MULTI", "EXEC", "GET", "EXISTS", "PTTL", "LLEN", "LRANGE", "HGETALL", "HMGET", "HLEN"})
"""Packets of these alone change nothing."""
PATIENCE = 60
"""How many effects a course may take before it is called endless."""


@dataclass(eq=False)
class Worker:
    """A process with the run open, or trying to open it; its connections are its own."""

    attempt: Attempt
    driver: ThreadDriver
    met: dict[str, Done] = field(default_factory=dict[str, Done])
    """The slots that are recorded, as far as it knows, or that it is at."""
    leaving: bool = False

    @property
    def fence(self) -> Fence:
        return self.attempt.fence

    @property
    def at_work(self) -> bool:
        return self.attempt.open and self.attempt.broken is None and self.fence.heir is None and not self.leaving


@dataclass(eq=False)
class Course:
    """One generator under way.

    Attributes:
        known: what was acknowledged to anybody when it began.
        refused: the records that had been rejected by then.
        deleted: the run had been deleted when it began.
        age: how often the server had been tampered with when it began.
        arrived: what came of the packet that is out, if it has reached the server: replies or an error.
    """

    kind: str
    worker: Worker
    protocol: Generator[Any, Any, Any]
    change: Change | None
    known: frozenset[str]
    refused: frozenset[str]
    deleted: bool
    age: int
    effect: Any = None
    arrived: Any = None
    held: list[Wire] = field(default_factory=list[Wire])

    @property
    def out(self) -> bool:
        """A packet of it is under way."""
        return isinstance(self.effect, Packet)


class Courses(RuleBasedStateMachine):
    """Courses side by side over a network that loses, delays and swallows."""

    dial: ClassVar[Callable[[], Dial]] = staticmethod(lambda: dial_memory(f"memory://{secrets.token_hex(8)}"))
    """Where the runs of the search are kept. Each example has a run of its own."""
    reached: ClassVar[Counter[str]] = Counter()
    """What the search came to: outcomes and events."""

    tolerated: ClassVar[str] = "$^"
    """Warnings that begin so are none of the search's business; any other is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(type(self).dial())
        attempt = Attempt(None, f"model-{secrets.token_hex(12)}", RunOptions())
        self.run_id, self.keys = attempt.run_id, attempt.fence.keys
        self.truth = Truth(self.keys, self.network.plain())
        self.hired: list[Worker] = []
        self.courses: list[Course] = []
        self.age = 0
        self.faults = 0
        self.note("examples")

    def note(self, what: str) -> None:
        self.reached[what] += 1

    def hire(self) -> Worker:
        """A new process, without anything open."""
        attempt = Attempt(None, self.run_id, RunOptions())
        announce(attempt)
        self.truth.fences.append(attempt.fence)
        self.hired.append(Worker(attempt, ThreadDriver(self.network)))  # type: ignore[arg-type]
        return self.hired[-1]

    def dismiss(self, worker: Worker) -> None:
        """The process is gone; its packets may still arrive."""
        for course in [c for c in self.courses if c.worker is worker]:
            self.courses.remove(course)
            if course.out and course.arrived is None:
                self._deliver(course, "late")
        withdraw(worker.attempt)
        worker.driver.close()

    def teardown(self) -> None:
        for course in self.courses:
            course.protocol.close()
        for worker in self.hired:
            withdraw(worker.attempt)
            worker.driver.close()
        self.truth.wire.close()
        if self.faults:
            self.note("examples with faults")

    # -- the network ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.courses)
    @rule(which=st.integers(0, 50))
    def a_packet_is_answered(self, which: int) -> None:
        self.go_on(self.courses[which % len(self.courses)])

    @precondition(lambda self: any(c.out and c.arrived is None for c in self.courses))
    @rule(which=st.integers(0, 50))
    def a_packet_arrives_and_its_answer_takes_its_time(self, which: int) -> None:
        out = [c for c in self.courses if c.out and c.arrived is None]
        self._deliver(out[which % len(out)])

    @precondition(lambda self: self.courses)
    @rule(which=st.integers(0, 50))
    def all_goes_well(self, which: int) -> None:
        self.let_it_end(self.courses[which % len(self.courses)])

    @precondition(lambda self: any(c.out for c in self.courses))
    @rule(which=st.integers(0, 50), fate=st.sampled_from(FATES))
    def the_network_is_unkind(self, which: int, fate: Fate) -> None:
        out = [c for c in self.courses if c.out]
        self.doom(out[which % len(out)], fate)

    @precondition(lambda self: any(c.out for c in self.courses))
    @rule(which=st.integers(0, 50), fate=st.sampled_from(FATES[:2] + FATES[3:]), rare=st.integers(0, 2))
    def the_server_stays_away(self, which: int, fate: Fate, rare: int) -> None:
        out = [c for c in self.courses if c.out]
        course = out[which % len(out)]
        for _ in range(PATIENCE if rare == 2 else 2):
            if course not in self.courses:
                return
            if course.out:
                self.doom(course, fate)
            elif not self.go_on(course):
                return

    @precondition(lambda self: self.courses)
    @rule(which=st.integers(0, 50), fate=st.sampled_from(FATES), every=st.integers(2, 4))
    def the_line_is_bad(self, which: int, fate: Fate, every: int) -> None:
        self.let_it_end(self.courses[which % len(self.courses)], fate, every)

    @precondition(lambda self: self.network.ghosts)
    @rule(which=st.integers(0, 20))
    def a_late_packet_arrives(self, which: int) -> None:
        ghost = self.network.ghosts.pop(which % len(self.network.ghosts))
        ghost.arrive()
        self.arrived(ghost.sender)

    def let_it_end(self, course: Course, fate: Fate | None = None, every: int = 0) -> None:
        """It meets no more faults than this in every so many of its packets; it may have to wait for a sibling."""
        for n in range(1, PATIENCE):
            if course not in self.courses:
                return
            if fate is not None and course.out and n % every == 0:
                self.doom(course, fate)
            elif not self.go_on(course):
                return
        raise AssertionError(f"{course.kind} does not end")

    # -- driving --------------------------------------------------------------------------------------------------

    def start(
        self, kind: str, worker: Worker, protocol: Generator[Any, Any, Any], change: Change | None = None
    ) -> Course:
        known, refused = frozenset(self.truth.acknowledged), frozenset(self.truth.world.rejected)
        course = Course(kind, worker, protocol, change, known, refused, self.truth.deleted, self.age)
        self.courses.append(course)
        self._resume(course, lambda: next(protocol))
        return course

    def go_on(self, course: Course) -> bool:
        """One effect further; ``False`` if it waits for a sibling."""
        if isinstance(course.effect, Pause):
            self._resume(course, lambda: course.protocol.send(None))
        elif isinstance(course.effect, Await):
            if not course.effect.future.done():
                return False
            failed = course.effect.future.exception()
            self._resume(course, lambda: course.protocol.send(failed))
        else:
            if course.arrived is None:
                self._deliver(course)
            self._answer(course)
        return True

    def _deliver(self, course: Course, fate: Fate | None = None) -> None:
        self.network.fate, self.network.sending = fate, course.effect.commands
        self.network.sender = course.worker.fence
        try:
            course.arrived = course.worker.driver._perform(course.effect, course.held)
        except (NotSent, Lost, AgentCheckpointError) as exc:
            course.arrived = exc
        finally:
            self.network.fate = None
        if fate in (None, "reply lost") and not READING.issuperset(command[0] for command in course.effect.commands):
            self.arrived(course.worker.fence)

    def doom(self, course: Course, fate: Fate) -> None:
        """This befalls the packet that it has out, or the reply."""
        self.faults += 1
        self.note(fate)
        if course.arrived is None:
            self._deliver(course, fate)
        else:  # it has arrived: only its reply can still be lost
            for wire in course.held:
                wire.close()
            course.arrived = Lost(fate)
        self._answer(course)

    def _answer(self, course: Course) -> None:
        came, course.arrived = course.arrived, None
        throw, send = course.protocol.throw, course.protocol.send
        self._resume(course, (lambda: throw(came)) if isinstance(came, Exception) else (lambda: send(came)))

    def _resume(self, course: Course, step: Callable[[], Any]) -> None:
        try:
            course.effect = step()
            return
        except StopIteration as stop:
            outcome = stop.value
        except (AgentCheckpointError, AgentCheckpointWarning) as exc:
            outcome = exc
        self.courses.remove(course)
        for wire in course.held:
            course.worker.driver._give_back(wire)
        self.note(f"{course.kind}: {type(outcome).__name__}")
        self.ended(course, outcome)

    # -- what the other half says ---------------------------------------------------------------------------------

    def arrived(self, sender: Fence | None) -> None:
        """A packet that may have changed something has reached the server."""
        raise NotImplementedError

    def ended(self, course: Course, outcome: Any) -> None:
        """A generator has returned, or raised, this."""
        raise NotImplementedError

"""Several workers at one shared budget, with packets that are lost, answered in vain, or arrive late: a random walk."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import agentcheckpoint as ac
from agentcheckpoint.core.budget import Kind
from agentcheckpoint.core.reservations import Book, Reservation, tally
from agentcheckpoint.store.budgets import Account, reserve, settle
from agentcheckpoint.store.effects import Command, Lost, Packet

ACCOUNT = Account("default", "team", "all", "r")
LIMIT = 100
LIMITS: dict[Kind, int] = {"usd": LIMIT}
FAR = 10**15


@dataclass(eq=False)
class Line:
    """A connection, and the version of the key that it watches."""

    watched: int | None = None


@dataclass
class Server:
    """One hash, as a server keeps it; what it has seen applied."""

    honours_watch: bool = True
    fields: dict[str, bytes] = field(default_factory=dict[str, bytes])
    version: int = 0

    def handle(self, line: Line, commands: tuple[Command, ...]) -> list[Any]:
        if commands[0] != ("MULTI",):
            return [self._read(line, command) for command in commands]
        watched, line.watched = line.watched, None
        queued = [b"OK", *[b"QUEUED"] * (len(commands) - 2)]
        if self.honours_watch and watched != self.version:
            return [*queued, None]
        return [*queued, [self._write(*map(str, command)) for command in commands[1:-1]]]

    def _read(self, line: Line, command: Command) -> Any:
        if command[0] == "WATCH":
            line.watched = self.version if line.watched is None else line.watched
            return b"OK"
        if command[0] == "HLEN":
            return len(self.fields)
        if command[0] == "HGET":
            return self.fields.get(str(command[2]))
        assert command[0] == "HGETALL"
        return [part for name, text in self.fields.items() for part in (name.encode(), text)]

    def _write(self, word: str, _key: str, name: str, text: str) -> int:
        if word == "HSETNX" and name in self.fields:
            return 0
        self.version += 1
        self.fields[name] = text.encode()
        return 1

    def reservations(self) -> dict[str, Reservation]:
        return {n: Reservation.model_validate_json(text) for n, text in self.fields.items() if n != "@"}


def kept(usd: int, state: Any = "reserved") -> Reservation:
    return Reservation(state=state, usd=usd, tokens=0, namespace="default", run="r", step="s", until=FAR)


@dataclass
class Worker:
    """Reserves, spends less than it has reserved, settles, and begins again."""

    name: str
    line: Line = field(default_factory=Line)
    count: int = 0
    bound: int = 0
    protocol: Generator[Any, Any, Any] | None = None
    effect: Any = None
    granted: dict[str, int] = field(default_factory=dict[str, int])
    """What each attempt that was granted may cost, or has cost."""
    refused: int = 0

    @property
    def attempt(self) -> str:
        return f"{self.name}{self.count}"

    def begin(self, bound: int) -> None:
        self.count, self.bound = self.count + 1, bound
        self._run(reserve(ACCOUNT, self.attempt, kept(bound), LIMITS, 0))

    def _run(self, protocol: Generator[Any, Any, Any]) -> None:
        self.protocol = protocol
        self._go(lambda: next(protocol))

    def _go(self, step: Any) -> None:
        assert self.protocol is not None
        try:
            self.effect = step()
            while not isinstance(self.effect, Packet):
                self.effect = self.protocol.send(None)
        except StopIteration as stop:
            self._ended(stop.value)
        except ac.StoreUnavailable:
            self.protocol = self.effect = None

    def _ended(self, outcome: Any) -> None:
        self.protocol = self.effect = None
        if self.attempt in self.granted:
            return
        if outcome is not None:
            assert outcome.total.usd + self.bound > LIMIT, "refused rightly, by what stood there when it was read"
            self.refused += 1
            return
        self.granted[self.attempt] = self.bound

    def settle(self, cost: int) -> None:
        self.granted[self.attempt] = cost
        self._run(settle(ACCOUNT, self.attempt, kept(cost, "paid")))

    def meet(self, server: Server, fate: str, late: list[tuple[Line, tuple[Command, ...]]]) -> None:
        """The packet that is out meets its fate."""
        line, commands, protocol = self.line, self.effect.commands, self.protocol
        assert protocol is not None
        replies = server.handle(line, commands) if fate in ("answered", "answered in vain") else []
        if fate == "answered":
            self._go(lambda: protocol.send(replies))
            return
        if fate == "late":
            late.append((line, commands))
        self.line = Line()
        self._go(lambda: protocol.throw(Lost(fate)))


FATES = st.sampled_from(["answered"] * 6 + ["lost", "answered in vain", "late", "late"])


def walk(data: st.DataObject, server: Server) -> list[Worker]:
    workers, late = [Worker(name) for name in "abc"], []
    for _ in range(data.draw(st.integers(10, 60))):
        if late and data.draw(st.booleans()):
            server.handle(*late.pop(data.draw(st.integers(0, len(late) - 1))))
        worker = data.draw(st.sampled_from(workers))
        if worker.protocol is not None:
            worker.meet(server, data.draw(FATES), late)
        elif worker.granted.get(worker.attempt) == worker.bound and data.draw(st.booleans()):
            worker.settle(data.draw(st.integers(0, worker.bound)))
        else:
            worker.begin(data.draw(st.sampled_from([10, 35, 60])))
        check(server, workers)
    return workers


def check(server: Server, workers: list[Worker]) -> None:
    granted = {attempt: usd for worker in workers for attempt, usd in worker.granted.items()}
    assert sum(granted.values()) <= LIMIT, f"overspent: {granted}"
    stored = server.reservations()
    if stored:
        book = Book.model_validate_json(server.fields["@"])
        assert (book.sums, book.entries) == (tally(stored.values()).total, len(stored))
    for attempt, usd in granted.items():
        assert stored[attempt].usd >= usd, "what may be spent stands there"


QUIET = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


@QUIET
@given(st.data())
def test_nobody_overspends_whatever_becomes_of_the_packets(data: st.DataObject) -> None:
    walk(data, Server())


def test_where_watch_is_not_honoured_it_is_noticed() -> None:
    """The negative control."""

    @settings(QUIET, database=None, max_examples=1000, phases=[Phase.generate], report_multiple_bugs=False)
    @given(st.data())
    def hold(data: st.DataObject) -> None:
        walk(data, Server(honours_watch=False))

    with pytest.raises(AssertionError):
        hold()


def test_left_alone_they_use_it_up() -> None:
    server, worker = Server(), Worker("a")
    while not worker.refused:
        worker.begin(35)
        while worker.protocol is not None:
            worker.meet(server, "answered", [])
        if worker.attempt in worker.granted:
            worker.settle(20)
            while worker.protocol is not None:
                worker.meet(server, "answered", [])
    assert sum(worker.granted.values()) == 80 and worker.count == 5

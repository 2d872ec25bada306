"""One lane of the grid: a server, a provider and a relay of its own, on which one scenario is played after another."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import redis

import agentcheckpoint as ac
from agentcheckpoint.testing.payments import Payment, Price
from agentcheckpoint.testing.provider import Provider

from .agents import Agent, generate
from .brain import Brain
from .diary import Account, Diary
from .drives import CANCELLED, DONE, FAILED, WAITS
from .lives import MODEL, Clients, fork_life, live
from .relay import Relay
from .scenario import Fault, Scenario
from .settling import Clean, bought_again, unsettled
from .upholding import left_behind, not_upheld
from .walked import astray
from .world import DUE, World, forget, read_world, torn

MOST_LIVES = 12
ABREAST = 3
"""How many payments may be under way at once, in an agent with parallel ones."""
LOOK, FETCH = 3, 4
"""Commands by which a wait is looked at, and by which results are fetched."""
Broken: TypeAlias = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Played:
    """How a scenario went. ``wrong``: what must not be."""

    seed: str
    fired: bool
    deaths: int
    wrong: tuple[str, ...]


def serve(journal: Path, address: Path) -> int:
    """The provider's whole life."""
    with Provider(Brain(), journal=journal, prices={MODEL: Price(input=2500, cached=250, output=10_000)}) as provider:
        address.with_suffix(".new").write_text(provider.url)
        address.with_suffix(".new").rename(address)
        while True:
            time.sleep(3600)


class Lane:
    """Where scenarios are played.

    Args:
        room: a directory of its own.
        server: the path of a Redis server's socket; no other lane uses the server.
    """

    def __init__(self, room: Path, server: str) -> None:
        self._room = room
        self._journal, address = room / "journal", room / "address"
        self._provider = fork_life(lambda: serve(self._journal, address), room / "provider-errors")
        while not address.exists():
            time.sleep(0.005)
        self._relay = Relay(room, server, int(address.read_text().rpartition(":")[2].partition("/")[0]))
        self._redis = redis.Redis(unix_socket_path=server)
        self._url = f"unix://{server}"
        self._clients = Clients.to(self._relay.base_url)
        self._number = 0
        self._read = 0
        """How many bytes of the provider's journal belong to scenarios that are over."""

    def close(self) -> None:
        os.kill(self._provider, signal.SIGKILL)
        os.waitpid(self._provider, 0)
        self._relay.close()

    def count_payments(self) -> int:
        """How many the provider was paid since the scenario began."""
        with self._journal.open("rb") as journal:
            journal.seek(self._read)
            return journal.read().count(b"\n")

    def new_payments(self) -> list[Payment]:
        """What the provider was paid since this was last asked."""
        with self._journal.open("rb") as journal:
            journal.seek(self._read)
            lines = journal.read()
        self._read += len(lines)
        return [Payment(**json.loads(line)) for line in lines.splitlines()]

    def clean(self, seed: int) -> Clean:
        """The agent without faults. Raises ``AssertionError``: something is wrong even so."""
        story = _Story(self, generate(seed), [])
        story.play()
        count = self._relay.count
        sure = count["r"] - LOOK * sum(op.kind == "slept" for op in story.agent.leaves())  # the time may be up at once
        if story.agent.has_threads:  # those that replay side by side may happen to ask together
            sure -= (ABREAST - 1) * FETCH * (story.account.attempts - 1)
        clean = Clean(story.world.slots if story.world else [], sure, count["h"], story.account.points)
        wrong = story.wrong or story.settle(clean)
        assert not wrong, f"agent {seed} without faults: {wrong} {story.errors()}"
        return clean

    def play(self, scenario: Scenario, clean: Clean, broken: Broken = nullcontext) -> Played:
        """Plays it to its end and settles all accounts.

        Args:
            clean: what its agent does without faults.
            broken: breaks the library; entered in each worker before it begins to live.
        """
        story = _Story(self, generate(scenario.agent), list(scenario.faults), broken)
        story.play()
        wrong = story.wrong or story.settle(clean)
        trace = () if not wrong else (f"trace: {'; '.join(self._relay.trace)}", *story.account.errors, *story.errors())
        return Played(str(scenario), not story.plan, story.deaths, (*wrong, *trace))


class _Story:
    """One scenario as it is played: life after life, until the agent is done."""

    def __init__(self, lane: Lane, agent: Agent, plan: list[Fault], broken: Broken = nullcontext) -> None:
        self._lane, self.agent, self._broken, self.plan = lane, agent, broken, plan
        lane._number += 1
        self._id = f"run-{lane._number}"
        self._diary, self._errors = lane._room / "diary", lane._room / "errors"
        self.lives = self.deaths = 0
        self._code, self._struck = FAILED, list[Fault]()
        self._fired: list[Fault] = []
        """In the life that was last."""
        self._cancelled_at: int | None = None
        """How many payments there were when the run's end had been asked for."""
        self.wrong: list[str] = []
        self.world: World | None = None
        self.account = Account()
        self.payments: list[Payment] = []

    def play(self) -> None:
        lane = self._lane
        for path in (self._diary, self._errors):
            path.unlink(missing_ok=True)
        lane._relay.trace.clear()
        over = 0
        while over < (1 if self._code == DONE else 2) and not self.wrong and self.lives < MOST_LIVES:
            before, world = self.account, self.world
            self._code = self._live()
            over += self._code in (DONE, CANCELLED)  # a cancelled run is opened once more: it stays so
            self.account = Account.read(self._diary)
            self.wrong += bought_again(self.world, before, self.account)
            self._look(world, before)
        if self._code not in (DONE, CANCELLED) and not self.wrong:
            self.wrong.append(f"the agent was not done after {self.lives} lives (exit code {self._code})")
        if self._code == CANCELLED:  # if its worker has died since, whoever looks for work notes its end
            ac.sweep(store=lane._url)
            self.world = read_world(lane._redis, self._id)
        self._judge_end()
        self.payments = lane.new_payments()
        forget(lane._redis, self._id)

    def _cancel(self) -> None:
        """Somebody asks for the run's end. One that is not there yet, or not any more, is left as it is."""
        try:
            ac.cancel(self._id, reason="the grid", store=self._lane._url)
        except (ac.RunNotFound, ac.RunMisuse):
            return
        self._cancelled_at = self._paid()

    def _paid(self) -> int:
        account = Account.read(self._diary)
        return sum(map(len, account.paid.values())) + self._lane.count_payments()

    def _judge_end(self) -> None:
        """After its end was asked for, no more is paid than what was under way."""
        if self._cancelled_at is None:
            return
        most = ABREAST if any(op.kind == "parallel" for op in self.agent.ops) else 1
        if (more := self._paid() - self._cancelled_at) > most:
            self.wrong.append(f"{more} payments were made after its end had been asked for")

    def _live(self) -> int:
        """One life. Notes what is wrong with how it ended."""
        lane = self._lane
        own = self.plan[0] if self.plan and self.plan[0].place == "p" else None
        due = [fault for fault in self.plan if fault.place != "p"] if own is None else []
        planned, hurried = len(due), any(fault.waits for fault in due)
        goes_on = bool(self.lives) and self._code == WAITS
        asked = self.world.open_waits() if self.world is not None and self._cancelled_at is None else []
        self.lives += 1

        def work() -> int:
            diary = Diary(self._diary, own.n - self.account.points if own is not None else None)
            told = (self.agent, self._id, lane._relay.url, lane._clients, diary)
            with self._broken():
                return live(*told, asked=asked, hurried=hurried)

        child = fork_life(work, self._errors)
        code = lane._relay.watch(child, due, self.agent.has_threads, goes_on, self._cancel)
        fired = self.plan[: planned - len(due)] if own is None else [own] if code == -signal.SIGKILL else []
        self.plan = self.plan[len(fired) :]
        self.deaths += code == -signal.SIGKILL
        self._fired = fired
        self._struck += fired
        if code not in self._usual(fired):
            self.wrong.append(f"life {self.lives} ended with {code} after {', '.join(map(str, fired)) or 'no fault'}")
        return code

    def _usual(self, fired: list[Fault]) -> set[int]:
        """How a life ends in which that has happened."""
        if any(fault.deadly for fault in fired):
            return {-signal.SIGKILL}
        ended = {DONE, WAITS} if self._cancelled_at is None else {DONE, WAITS, CANCELLED}
        if self.agent.is_job or not any(fault.place == "h" for fault in fired):
            return ended
        return {FAILED} if self._cancelled_at is None else {FAILED, CANCELLED}  # a sibling may have heard of its end

    def _look(self, before: World | None, then: Account) -> None:
        """The store as the life left it, before another one heals it."""
        world = self.world = read_world(self._lane._redis, self._id)
        if world is None:
            return
        died = self._code == -signal.SIGKILL or (bool(self.deaths) and self._code == CANCELLED)
        found = [
            *torn(world),
            *not_upheld(before, then, world, self.account),
            *astray(world, self.account),
            *left_behind(world, died=died, struck=bool(self._struck)),
            *self._kept_listed(world),
        ]
        self.wrong += [f"after life {self.lives}: {what}" for what in found]

    def _kept_listed(self, world: World) -> Iterator[str]:
        """A note that outlives its reason does so only until somebody looks."""
        if world.has_work or world.look_ms is None:
            return
        self._lane._redis.zadd(DUE, {self._id: 0})
        ac.sweep(store=self._lane._url)
        if self._lane._redis.zscore(DUE, self._id) is not None:
            yield f"it is {world.meta.get('state')}, and no sweep takes it from the list of what is due"

    def settle(self, clean: Clean) -> list[str]:
        if self.world is None:
            return ["there is no run"]
        told = (self.agent, clean, self.world, self.account, self.payments)
        return unsettled(*told, deaths=self.deaths, cancelled=self._code == CANCELLED)

    def errors(self) -> list[str]:
        return [self._errors.read_text()[-3000:]] if self._errors.exists() else []

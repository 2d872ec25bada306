"""Cancels async agents at every await, once and three times in a row, and looks at what is left.

A wrapper around each task's coroutine counts where it is suspended, and cancels the agent's task at those planned.
"""

from __future__ import annotations

import asyncio
import gc
import random
import warnings
from collections.abc import Collection, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

import agentcheckpoint as ac
from agentcheckpoint.testing.provider import Provider

from .aftermath import after_first_life, after_last_life
from .async_agents import AGENTS, RETURNS, live
from .outside import PRICES, World, stage
from .tally import Tally, Violation

ENGINE = "awaits"
TIMES = (1, 3)
"""How many cancellations come in a row."""
TURNS = 20
"""How many turns of its loop a task has to end after the agent has."""
PATIENCE = 60.0
"""Seconds that one scenario may take before it counts as hanging."""


class Suspensions:
    """Counts the suspensions of all tasks that a loop makes, and cancels one task at those planned."""

    def __init__(self, planned: Collection[int]) -> None:
        self._planned = planned
        self.main: asyncio.Task[Any] | None = None
        self.count = 0
        self.delivered = 0

    def make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """A loop's task factory."""
        return asyncio.Task(_Watched(coro, self), loop=loop, **options)

    def suspended(self) -> None:
        self.count += 1
        if self.count in self._planned and self.main is not None and not self.main.done():
            self.delivered += 1
            self.main.cancel()


class _Watched(Coroutine[Any, Any, Any]):
    """Forwards what comes to a coroutine, and reports each of its suspensions."""

    def __init__(self, inner: Coroutine[Any, Any, Any], suspensions: Suspensions) -> None:
        self.inner, self._suspensions = inner, suspensions

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("it is a task's, which drives it itself")

    def send(self, value: Any, /) -> Any:
        return self._suspended(self.inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._suspended(self.inner.throw(*error))

    def close(self) -> None:
        self.inner.close()

    def _suspended(self, waits_for: Any) -> Any:
        self._suspensions.suspended()
        return waits_for


@dataclass(slots=True)
class Scenario:
    """One agent, cancelled at one place, and what was wrong after it."""

    agent: str
    place: int
    times: int
    count: int = 0
    fired: bool = False
    wrong: list[str] = field(default_factory=list[str])

    @property
    def seed(self) -> str:
        return f"{self.agent}/{self.place}x{self.times}"


def search(seed: int, agents: Collection[str] = tuple(AGENTS), *, until_caught: bool = False) -> Tally:
    """Cancels each agent at each of its awaits, once and three times in a row.

    Args:
        seed: makes the order.
        agents: which.
        until_caught: stop at the first violation.
    """
    tally = Tally()
    with stage() as (url, provider):
        for agent in agents:
            uncancelled = play(Scenario(agent, 0, 0), url, provider)
            tally.notes[f"awaits of {agent!r}"] = uncancelled.count
            _count(tally, uncancelled)
            plan = [(place, times) for place in range(1, uncancelled.count + 1) for times in TIMES]
            random.Random(seed).shuffle(plan)
            for place, times in plan:
                if until_caught and tally.violations:
                    return tally
                _count(tally, play(Scenario(agent, place, times), url, provider))
    return tally


def replay(seed: str) -> list[str]:
    """What is wrong with one scenario, by the seed of its violation."""
    agent, _, rest = seed.rpartition("/")
    place, _, times = rest.partition("x")
    with stage() as (url, provider):
        return play(Scenario(agent, int(place), int(times)), url, provider).wrong


def _count(tally: Tally, played: Scenario) -> None:
    if played.times:
        tally.scenarios += 1
        tally.fired += played.fired
    tally.violations += [Violation(ENGINE, played.seed, what) for what in played.wrong]


def play(scenario: Scenario, url: str, provider: Provider) -> Scenario:
    """One life that is cancelled, and a second one that is not."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = len(provider.journal)
        try:
            asyncio.run(asyncio.wait_for(_lives(scenario, url, provider, before), PATIENCE))
        except TimeoutError:
            scenario.wrong.append("it hangs")
        gc.collect()
    scenario.wrong += [f"{type(said.message).__name__}: {said.message}" for said in caught]
    return scenario


_plays = iter(range(10**9))


async def _lives(scenario: Scenario, url: str, provider: Provider, before: int) -> None:
    loop, agent, mine = asyncio.get_running_loop(), AGENTS[scenario.agent], asyncio.all_tasks()
    loop.set_exception_handler(lambda _, context: scenario.wrong.extend(_complaint(context)))
    http = httpx2.AsyncClient(verify=False)
    async with openai.AsyncOpenAI(base_url=provider.url, api_key="k", max_retries=0, http_client=http) as bare:
        world = World(url, ac.wrap(bare, prices=PRICES), f"{scenario.agent}-{next(_plays)}")
        suspensions = Suspensions(range(scenario.place, scenario.place + scenario.times))
        loop.set_task_factory(suspensions.make_task)
        suspensions.main = task = loop.create_task(live(agent, world))
        await asyncio.wait({task})
        loop.set_task_factory(None)
        scenario.count, scenario.fired = suspensions.count, suspensions.delivered > 0
        scenario.wrong += _outcome(task, scenario)
        scenario.wrong += await _pending(mine)
        wrong, recorded = await asyncio.to_thread(after_first_life, world, provider.journal[before:])
        scenario.wrong += wrong
        paid = list(world.paid)
        try:
            await live(agent, world)
        except Exception as exc:
            scenario.wrong.append(f"the second life failed: {type(exc).__name__}: {exc}")
        else:
            journal = provider.journal[before:]
            scenario.wrong += await asyncio.to_thread(after_last_life, world, recorded, paid, journal)
            if world.output != RETURNS[scenario.agent](world.run_id):
                scenario.wrong.append(f"the second life returned {world.output}")
        scenario.wrong += await _pending(mine)


def _complaint(context: dict[str, Any]) -> list[str]:
    """What the loop says. A stream that was left is closed with its loop, and the client's own generators, one inside
    the other, then get in each other's way: the same without this library.
    """
    closing = "asyncgen" in context and "Response.aiter_" in repr(context["asyncgen"])
    return [] if closing else [f"the loop says: {context['message']}"]


async def _pending(mine: set[asyncio.Task[Any]]) -> list[str]:
    """Tasks that do not end by themselves. Those that close an async generator which was left have a few turns."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
        if not (left := asyncio.all_tasks() - mine):
            return []
    return [f"a task is left pending: {task.get_coro()}" for task in left]


def _outcome(task: asyncio.Task[Any], scenario: Scenario) -> list[str]:
    """Whether the cancellation came out, and nothing else."""
    if task.cancelled():
        return [] if scenario.fired else ["it was cancelled by nobody"]
    if (error := task.exception()) is not None:
        return [f"it ended with {type(error).__name__}: {error}"]
    return ["the cancellation was swallowed"] if scenario.fired else []

"""Interrupts blocking agents before and after every packet and every payment, and looks at what is left.

An interrupt is what a signal's function raises in the main thread: ``KeyboardInterrupt``, ``SystemExit``, or an
exception of the user's own.
"""

from __future__ import annotations

import gc
import random
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from unittest.mock import patch

import httpx2
import openai

import agentcheckpoint as ac
from agentcheckpoint.store.wire import Wire
from agentcheckpoint.testing.provider import Provider

from .aftermath import after_first_life, after_last_life
from .blocking_agents import AGENTS, RETURNS, live
from .outside import PRICES, World, stage
from .tally import Tally, Violation

ENGINE = "interrupts"


class Alarm(Exception):
    """What a user's own function for a signal raises, to end something that takes too long."""


KINDS: dict[str, type[BaseException]] = {"ctrl-c": KeyboardInterrupt, "exit": SystemExit, "alarm": Alarm}
_runs = iter(range(10**9))


@dataclass(slots=True)
class Scenario:
    """One agent, interrupted at one place, and what was wrong after it.

    Attributes:
        place: ``packet 3 after``: after the replies of the third packet were read, and before anybody has them.
    """

    agent: str
    place: str
    kind: str
    fired: bool = False
    places: list[str] = field(default_factory=list[str])
    """Where it could have been interrupted."""
    wrong: list[str] = field(default_factory=list[str])

    @property
    def seed(self) -> str:
        return f"{self.agent}/{self.place}/{self.kind}"


def search(seed: int, agents: Collection[str] = tuple(AGENTS), *, until_caught: bool = False) -> Tally:
    """Interrupts each agent at each place in each way. ``seed`` makes the order."""
    tally = Tally()
    with stage() as (url, provider):
        for agent in agents:
            alone = play(Scenario(agent, "", "ctrl-c"), url, provider)
            tally.notes[f"places of {agent!r}"] = len(alone.places)
            plan = [Scenario(agent, place, kind) for place, kind in product(alone.places, KINDS)]
            plan = [each for each in plan if not (each.kind == "alarm" and "payment" in each.place)]  # any failure
            random.Random(seed).shuffle(plan)
            for scenario in plan:
                if until_caught and tally.violations:
                    return tally
                play(scenario, url, provider)
                tally.scenarios += 1
                tally.fired += scenario.fired
                tally.violations += [Violation(ENGINE, scenario.seed, what) for what in scenario.wrong]
    return tally


def replay(seed: str) -> list[str]:
    """What is wrong with one scenario, by the seed of its violation."""
    agent, place, kind = seed.split("/")
    with stage() as (url, provider):
        return play(Scenario(agent, place, kind), url, provider).wrong


def play(scenario: Scenario, url: str, provider: Provider) -> Scenario:
    """One life that is interrupted, and a second one that is not."""
    http = httpx2.Client(verify=False)
    with (
        warnings.catch_warnings(record=True) as caught,
        openai.OpenAI(base_url=provider.url, api_key="k", max_retries=0, http_client=http) as bare,
    ):
        warnings.simplefilter("always")
        world = World(url, ac.wrap(bare, prices=PRICES), f"{scenario.agent}-{next(_runs)}")
        _lives(scenario, world, provider, len(provider.journal))
        del world
        gc.collect()
    scenario.wrong += [f"{type(said.message).__name__}: {said.message}" for said in caught]
    return scenario


def _lives(scenario: Scenario, world: World, provider: Provider, before: int) -> None:
    agent, kind = AGENTS[scenario.agent], KINDS[scenario.kind]
    try:
        with _interrupted(scenario, world):
            live(agent, world)
    except kind as exc:
        if not scenario.fired:
            scenario.wrong.append(f"{exc!r} came from nowhere")
    except BaseException as exc:
        scenario.wrong.append(f"it ended with {type(exc).__name__}: {exc}")
    else:
        if scenario.fired:
            scenario.wrong.append("the interrupt was swallowed")
    wrong, recorded = after_first_life(world, provider.journal[before:], scenario.kind == "alarm")
    scenario.wrong += wrong
    paid = list(world.paid)
    try:
        live(agent, world)
    except Exception as exc:
        scenario.wrong.append(f"the second life failed: {type(exc).__name__}: {exc}")
    else:
        scenario.wrong += after_last_life(world, recorded, paid, provider.journal[before:])
        if world.output != RETURNS[scenario.agent](world.run_id):
            scenario.wrong.append(f"the second life returned {world.output}")


@contextmanager
def _interrupted(scenario: Scenario, world: World) -> Iterator[None]:
    """Inside, the planned place raises; all others are noted."""
    packets, payments = iter(range(1, 10**6)), iter(range(1, 10**6))
    exchange, read, buy = Wire.exchange, Wire._read, World.buy
    under_way: list[int] = []

    def pass_by(place: str) -> None:
        scenario.places.append(place)
        if place == scenario.place:
            scenario.fired = True
            raise KINDS[scenario.kind]()

    def exchanged(wire: Wire, commands: Any) -> Any:
        number = next(packets)
        pass_by(f"packet {number} before")
        under_way[:] = [number]
        return exchange(wire, commands)

    def were_read(wire: Wire, count: int) -> Any:
        replies = read(wire, count)
        pass_by(f"packet {under_way.pop()} after")
        return replies

    def bought(this: World, slot: str) -> Any:
        return _around(lambda: buy(this, slot), pass_by, f"payment {next(payments)}")

    wire = patch.multiple(Wire, exchange=exchanged, _read=were_read)
    with wire, patch.object(World, "buy", bought):
        yield


def _around(call: Callable[[], Any], pass_by: Callable[[str], None], name: str) -> Any:
    pass_by(f"{name} before")
    result = call()
    pass_by(f"{name} after")
    return result

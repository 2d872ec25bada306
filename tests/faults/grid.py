"""The crash grid: every command, request and point of generated agents x every fate, and pairs of faults."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from operator import attrgetter
from typing import Any

from .agents import generate
from .lane import Lane, Played
from .pool import LANES, at_once
from .scenario import FATES, Fault, Scenario
from .settling import Clean
from .tally import Tally, Violation
from .variants import Variant

ENGINE = "grid"
FIRST_COMMANDS = 40
"""So many commands every life sends, whatever is left to do: to connect, and to open and close the run."""
NEXT_COMMANDS = 15
"""So many a life sends after a fault that it survived: at least a claim, unless it comes to its end before."""
CLOSING = 5
"""So many it sends after its agent has failed: to close the run."""
LAST_COMMANDS = 3
"""So many it sends at least once its end is asked for, if it has not come near to its end by itself."""
NOT_MET = "its fault was never met: its agent does not come to that place"
COURSES = 3
"""How often an agent is played without faults, to count its places."""
CONTROL_BUDGET = 800
"""Scenarios in which a variant has to be caught."""


def singles(seed: int, clean: Clean) -> Iterator[Scenario]:
    """Every place of an agent's life x every fate."""
    for place, count in (("r", clean.commands), ("h", clean.requests), ("p", clean.points)):
        for n, fate in itertools.product(range(1, count + 1), FATES[place]):
            yield Scenario(seed, (Fault(place, n, fate),))


def pairs(seed: int, clean: Clean, chance: random.Random) -> Iterator[Scenario]:
    """A fault anywhere, and a second one that hits the recovery from it. Endless."""
    places = [place for place in ("r", "r", "r", "h", "p") if place != "h" or clean.requests]
    while True:
        place = chance.choice(places)
        count = {"r": clean.commands, "h": clean.requests, "p": clean.points}[place]
        first = Fault(place, chance.randint(1, count), chance.choice(FATES[place]))
        most = FIRST_COMMANDS if first.deadly else CLOSING if place == "h" else min(NEXT_COMMANDS, count - first.n + 1)
        if first.fate == "cancel":
            first, most = replace(first, n=min(first.n, count - FIRST_COMMANDS)), LAST_COMMANDS
        yield Scenario(seed, (first, Fault("r", chance.randint(1, most), chance.choice(FATES["r"]))))


def plan(agents: dict[int, Clean], budget: int, seed: int) -> list[Scenario]:
    """Which scenarios to play: singles, drawn from the whole grid of these agents, and pairs for a quarter or more.

    Args:
        budget: how many; the grid has no more singles than it has.
        seed: the same seed draws the same.
    """
    chance = random.Random(seed)
    grid = [scenario for number, clean in agents.items() for scenario in singles(number, clean)]
    chance.shuffle(grid)
    count = min(len(grid), budget - budget // 4)
    makers = itertools.cycle([pairs(number, clean, chance) for number, clean in agents.items()])
    return grid[:count] + [next(next(makers)) for _ in range(budget - count)]


def measure(agents: Sequence[int]) -> dict[int, Clean]:
    """What each agent does without faults, and how many places it comes to at least.

    All courses come to the same places. Where a machine stands still for so long that a lease is renewed, one has more.
    """

    def work(lane: Lane, number: int) -> Iterator[dict[str, Any]]:
        for agent in agents[number::LANES]:
            yield {
                "agent": agent,
                **asdict(min((lane.clean(agent) for _ in range(COURSES)), key=attrgetter("commands"))),
            }

    found = {one.pop("agent"): Clean(**one) for one in at_once(min(LANES, len(agents)), work)}
    return {agent: found[agent] for agent in agents}


def search(budget: int, seed: int, agents: Sequence[int], tell: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Plays so many scenarios of these agents; ``tell`` is told how far it is after each."""

    known = measure(agents)
    scenarios = plan(known, budget, seed)

    def work(lane: Lane, number: int) -> Iterator[dict[str, Any]]:
        for scenario in scenarios[number::LANES]:
            yield asdict(lane.play(scenario, known[scenario.agent]))

    tally = Tally()
    for found in at_once(LANES, work):
        count(tally, Played(**found))
        tell(tally)
    return tally


def count(tally: Tally, played: Played) -> None:
    """One more scenario was played."""
    tally.scenarios += 1
    tally.fired += played.fired
    tally.deaths += played.deaths
    wrong = played.wrong or (() if played.fired else (NOT_MET,))
    if wrong:
        tally.violations.append(Violation(ENGINE, played.seed, "\n  ".join(wrong)))


def replay(seed: str) -> Tally:
    """Plays one scenario again.

    Raises:
        ValueError: the seed is none of this engine's.
    """
    scenario = Scenario.parse(seed)
    tally = Tally()
    for found in at_once(1, lambda lane, _: iter([asdict(lane.play(scenario, lane.clean(scenario.agent)))])):
        count(tally, Played(**found))
    return tally


def aimed(variant: Variant, agents: dict[int, Clean], seed: int) -> list[Scenario]:
    """Which scenarios have to show that the library is broken so."""
    if variant.aim is None:
        return plan(agents, CONTROL_BUDGET, seed)
    chosen = [
        scenario
        for (number, clean), agent in zip(agents.items(), map(generate, agents), strict=True)
        for scenario in singles(number, clean)
        if variant.aim(agent, scenario.faults[0], clean)
    ]
    random.Random(seed).shuffle(chosen)
    return chosen[:CONTROL_BUDGET]


def caught(variants: Sequence[Variant], agents: Sequence[int], seed: int) -> Iterator[tuple[Variant, str | None]]:
    """By which scenario each variant is caught, as that is known; ``None``: by none.

    It is one that the library passes as it is.

    Raises:
        RuntimeError: a variant cannot be entered, and breaks nothing.
    """

    known = measure(agents)

    def work(lane: Lane, number: int) -> Iterator[dict[str, Any]]:
        for index in range(number, len(variants), LANES):
            with variants[index].broken():
                pass
            scenarios = aimed(variants[index], known, seed)
            yield {"index": index, "seed": next(_caught(lane, variants[index], known, scenarios), None)}

    for found in at_once(min(LANES, len(variants)), work):
        yield variants[found["index"]], found["seed"]


def _caught(lane: Lane, variant: Variant, known: dict[int, Clean], scenarios: Sequence[Scenario]) -> Iterator[str]:
    """The seeds of the scenarios that only the broken library does not pass."""
    for scenario in scenarios:
        clean = known[scenario.agent]
        wrong = "\n".join(lane.play(scenario, clean, variant.broken).wrong)
        if wrong and variant.says in wrong and not lane.play(scenario, clean).wrong:
            yield str(scenario)

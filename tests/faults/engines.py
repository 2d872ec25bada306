"""The searches, by name: what each plays in a quick and in a full run, and how it is shown that it would notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import awaits, corruption, grid, history, interrupts, model, pauses, rollback, server_deaths
from .broken import callers, commits, jobs, protocol, reading, servers, walks
from .tally import Tally, Violation
from .variants import Variant

Tell = Callable[[Tally], None]
Caught = Iterator[tuple[Variant, str | None]]
Search = Callable[[bool, int, Tell], Tally]

QUICK_AGENTS, FULL_AGENTS = range(14), range(34)
QUICK_GRID, FULL_GRID = 450, 20_400
QUICK_PAUSES, FULL_PAUSES = 72, 400
QUICK_DEATHS, FULL_DEATHS = 60, 300
QUICK_DAMAGE, FULL_DAMAGE = 2, 200
"""Mutations of each stored field; ``test_corruption.py`` plays 50."""
QUICK_EXAMPLES, FULL_EXAMPLES = 60, 800
QUICK_RACE, FULL_RACE = 6.0, 60.0
"""Seconds."""
CONTROL = 24
"""Scenarios that have to show that the library is broken, where chance draws them."""
CONTROLS = 4
"""How often they are played, at most, until they do: when a process is stopped or killed differs from time to time."""
STEPS = ("steps",)
"""The agent that shows it, where all of its places are played."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One search for violations.

    Attributes:
        name: what it is called in reports.
        plays: what it plays, for people.
        search: plays its scenarios, many if ``full``; tells how far it is.
        variants: ways to break the library that it has to catch.
        caught: by what each of them is caught, if it is.
        replay: plays one scenario again, by its seed. Raises ``ValueError`` if there is none.
    """

    name: str
    plays: str
    search: Search
    variants: tuple[Variant, ...]
    caught: Callable[[Sequence[Variant]], Caught]
    replay: Callable[[str], Tally]


def _grid(full: bool, seed: int, tell: Tell) -> Tally:
    return grid.search(FULL_GRID if full else QUICK_GRID, seed, FULL_AGENTS if full else QUICK_AGENTS, tell)


def _damage(full: bool, seed: int, _: Tell) -> Tally:
    return corruption.search(FULL_DAMAGE if full else QUICK_DAMAGE, seed)


def _caught_by(search: Callable[[Variant], Tally]) -> Callable[[Sequence[Variant]], Caught]:
    """What an engine catches that searches in this process, or breaks the library itself."""

    def caught(variants: Sequence[Variant]) -> Caught:
        for variant in variants:
            tries = (search(variant).violations for _ in range(CONTROLS))
            found = (each.seed for violations in tries for each in violations if variant.says in each.what)
            yield variant, next(found, None)

    return caught


def _named(caught: Callable[[Variant], str | None]) -> Callable[[Sequence[Variant]], Caught]:
    """What an engine catches that says by which seed, and what it saw."""
    return lambda variants: ((variant, (caught(variant) or "").partition(":")[0] or None) for variant in variants)


def _broken(search: Callable[[Variant], Tally]) -> Callable[[Variant], Tally]:
    def broken(variant: Variant) -> Tally:
        with variant.broken():
            return search(variant)

    return broken


def _aimed(damage: corruption.Damage) -> Tally:
    return corruption.search(damage.per_field, 3, every=damage.every, only=damage.only)


def _played(engine: str, replay: Callable[[str], list[str]]) -> Callable[[str], Tally]:
    """A replay that counts."""
    return lambda seed: Tally(1, 1, violations=[Violation(engine, seed, what) for what in replay(seed)])


def _of(variants: Sequence[Variant], engine: str) -> tuple[Variant, ...]:
    return tuple(variant for variant in variants if variant.engine == engine)


ENGINES = (
    Engine(
        grid.ENGINE,
        "generated agents, blocking and async: each command to Redis and each request to the provider is cut before, "
        "inside or after it, comes late, or is the last before or after a SIGKILL, or somebody cancels the run there; "
        "and pairs of these",
        _grid,
        (*commits.VARIANTS, *jobs.VARIANTS, *walks.VARIANTS),
        lambda variants: grid.caught(variants, QUICK_AGENTS, 0),
        grid.replay,
    ),
    Engine(
        awaits.ENGINE,
        "async agents: a cancellation at every await, and three in a row",
        lambda full, seed, _: awaits.search(seed),
        _of(callers.VARIANTS, awaits.ENGINE),
        _caught_by(_broken(lambda _: awaits.search(0, STEPS, until_caught=True))),
        _played(awaits.ENGINE, awaits.replay),
    ),
    Engine(
        interrupts.ENGINE,
        "blocking agents: Ctrl-C, SystemExit or a signal's own exception before and after every packet and payment",
        lambda full, seed, _: interrupts.search(seed),
        _of(callers.VARIANTS, interrupts.ENGINE),
        _caught_by(_broken(lambda _: interrupts.search(0, STEPS, until_caught=True))),
        _played(interrupts.ENGINE, interrupts.replay),
    ),
    Engine(
        pauses.ENGINE,
        "workers that are stopped (SIGSTOP) past their lease, taken over, and go on",
        lambda full, seed, _: pauses.search(FULL_PAUSES if full else QUICK_PAUSES, seed),
        (*_of(callers.VARIANTS, pauses.ENGINE), *walks.PAUSED),
        _caught_by(lambda variant: pauses.search(CONTROL, 20261124, variant)),
        _played(pauses.ENGINE, pauses.replay),
    ),
    Engine(
        server_deaths.ENGINE,
        "servers that are killed at each EXEC or at random, stay away, refuse, lose their power, or fail over to a "
        "replica that lags",
        lambda full, seed, _: server_deaths.search(FULL_DEATHS if full else QUICK_DEATHS, seed * 100_000),
        servers.VARIANTS,
        _caught_by(lambda variant: server_deaths.search(1, variant.aim, variant)),
        lambda seed: server_deaths.search(1, int(seed)),
    ),
    Engine(
        "model",
        "three workers of one run, their commits side by side, and a network that loses, delays and swallows",
        lambda full, seed, _: model.search(FULL_EXAMPLES if full else QUICK_EXAMPLES, seed),
        _of(protocol.VARIANTS, "model"),
        _named(model.caught),
        model.replay,
    ),
    Engine(
        "rollback",
        "the same on a server that goes back to an earlier state, or loses single keys",
        lambda full, seed, _: rollback.search(FULL_EXAMPLES if full else QUICK_EXAMPLES, seed),
        _of(protocol.VARIANTS, "rollback"),
        _named(model.caught),
        rollback.replay,
    ),
    Engine(
        "history",
        "eight processes that race for a few runs, are killed and stopped; their diaries against what is stored",
        lambda full, seed, _: history.search(FULL_RACE if full else QUICK_RACE, seed),
        _of(protocol.VARIANTS, "history"),
        _named(model.caught),
        lambda seed: history.search(QUICK_RACE, int(seed)),
    ),
    Engine(
        corruption.ENGINE,
        "every stored field of a run, damaged again and again",
        _damage,
        reading.VARIANTS,
        _caught_by(_broken(lambda variant: _aimed(variant.aim))),
        lambda seed: corruption.search(FULL_DAMAGE, int(seed.partition(":")[0]), only=f"^{seed.split(':')[1]}"),
    ),
)

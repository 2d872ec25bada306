"""The search for what a server's death breaks: at each EXEC, at random, for long, by power, and in a failover."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from agentcheckpoint.errors import AgentCheckpointError

from . import failover, power_loss
from .server_agent import AGENTS
from .server_fuse import MOMENTS
from .server_scenarios import TROUBLES, Away, Death, RandomDeaths, Refused, Room
from .servers import Server, binaries
from .tally import Tally, Violation
from .variants import Variant

ENGINE = "server deaths"
EXECS = 13
"""How many EXECs an agent sends if all goes well; a test counts them."""
KINDS = {"death": 8, "random deaths": 2, "away": 3, "refused": 3, "power loss": 2, "failover": 2}
"""What is played, and how often among the others."""


@dataclass(slots=True)
class Stage:
    """The servers of one search: those of the plain scenarios are used again and again, each run is a new one."""

    directory: Path
    tally: Tally
    stack: ExitStack
    servers: dict[str, Server] = field(default_factory=dict[str, Server])
    mains: dict[tuple[str, str], power_loss.Mains] = field(default_factory=dict[tuple[str, str], power_loss.Mains])
    played: int = 0

    def room(self) -> Path:
        """A directory of its own."""
        self.played += 1
        room = self.directory / str(self.played)
        room.mkdir()
        return room

    def server(self, name: str) -> Server:
        if name not in self.servers:
            self.servers[name] = self.stack.enter_context(Server(binaries()[name], self.room()))
        return self.servers[name]

    def supplied(self, name: str, fsync: str) -> power_loss.Mains:
        """A server that can lose its power. Raises ``power_loss.NotHere``."""
        if (name, fsync) not in self.mains:
            library = power_loss.shim(self.room())
            mains = self.mains[name, fsync] = power_loss.Mains(binaries()[name], self.room(), fsync, library)
            self.stack.enter_context(mains.server)
        return self.mains[name, fsync]


def search(budget: int, seed: int, broken: Variant | None = None) -> Tally:
    """Plays so many scenarios; ``search(1, n)`` plays again the one that a violation names as ``n``.

    Args:
        broken: a negative control, which is in force meanwhile.
    """
    tally = Tally()
    with (
        TemporaryDirectory(prefix="ac-") as directory,
        broken.broken() if broken is not None else nullcontext(),
        ExitStack() as stack,
    ):
        stage = Stage(Path(directory), tally, stack)
        for number in range(seed, seed + budget):
            play(stage, number)
    return tally


def play(stage: Stage, seed: int) -> None:
    """One scenario, all of it drawn from the seed."""
    rng, tally, names = random.Random(seed), stage.tally, [*binaries()]
    kind = rng.choices([*KINDS], [*KINDS.values()])[0]
    name = names[int(rng.random() * len(names))]  # what follows is the same on machines with fewer servers
    tally.scenarios += 1
    try:
        found = PLAYS[kind](stage, name, rng)
    except power_loss.NotHere as why:
        tally.scenarios -= 1
        if str(why) not in tally.skipped:
            tally.skipped.append(str(why))
        return
    except (AgentCheckpointError, TimeoutError) as trouble:
        found = [f"{type(trouble).__name__}: {trouble}"]
    tally.notes[kind] = tally.notes.get(kind, 0) + 1
    tally.violations += [Violation(ENGINE, seed, f"{kind} on {name}: {what}") for what in found]


def _at_an_exec(stage: Stage, name: str, rng: random.Random) -> list[str]:
    return _plain(stage, name, rng, Death(rng.choice([*AGENTS]), rng.randint(1, EXECS), rng.choice(MOMENTS)))


def _at_random(stage: Stage, name: str, rng: random.Random) -> list[str]:
    return _plain(stage, name, rng, RandomDeaths(rng.choice([*AGENTS])))


def _away(stage: Stage, name: str, rng: random.Random) -> list[str]:
    return _plain(stage, name, rng, Away(rng.choice([*AGENTS]), rng.randint(1, EXECS), rng.choice(MOMENTS)))


def _refused(stage: Stage, name: str, rng: random.Random) -> list[str]:
    return _plain(stage, name, rng, Refused(rng.choice([*AGENTS]), rng.randint(1, EXECS), rng.choice([*TROUBLES])))


def _plain(stage: Stage, name: str, rng: random.Random, scenario: Death | RandomDeaths | Away | Refused) -> list[str]:
    stage.played += 1
    room = Room(stage.server(name), stage.directory, f"run-{stage.played}", rng, stage.tally)
    return [f"{scenario}: {what}" for what in scenario.play(room)]


def _power(stage: Stage, name: str, rng: random.Random) -> list[str]:
    fsync, heir = rng.choice(("everysec", "everysec", "always")), rng.random() < 0.5
    outcome = power_loss.play(stage.supplied(name, fsync), stage.room(), rng, heir=heir)
    tally = stage.tally
    tally.fired += 1
    tally.deaths += 1 + heir
    for what, more in ((f"lost to power, {fsync}", outcome.lost), (f"trials with a loss, {fsync}", outcome.lost > 0)):
        tally.notes[what] = tally.notes.get(what, 0) + more
    lost = [f"{outcome.lost} acknowledged commits were lost though each was synced"] if fsync == "always" else []
    return [f"{fsync}, heir={heir}: {what}" for what in (*outcome.wrong, *(lost if outcome.lost else ()))]


def _failover(stage: Stage, name: str, rng: random.Random) -> list[str]:
    who = rng.choice(failover.WHO)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = failover.play(binaries()[name], stage.room(), rng, who)
    stage.tally.fired += 1
    stage.tally.deaths += 1
    return [f"{who}: {what}" for what in found]


PLAYS: dict[str, Callable[[Stage, str, random.Random], list[str]]] = {
    "death": _at_an_exec,
    "random deaths": _at_random,
    "away": _away,
    "refused": _refused,
    "power loss": _power,
    "failover": _failover,
}

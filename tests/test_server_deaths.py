"""Servers that die under an agent: at an EXEC, at random, for long, by power, in a failover; and what shows it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import failover, power_loss
from faults.broken.servers import VARIANTS
from faults.server_agent import AGENTS, Diary, live
from faults.server_deaths import EXECS, search
from faults.server_evidence import read, wrongs
from faults.server_fuse import MOMENTS, Fuse, Moment, armed
from faults.server_scenarios import Death, Room
from faults.servers import Server
from faults.tally import Tally
from servers import REAL

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

SEED = 2079
TRIES = 5
"""How often the power fails, at most, until something is lost to it."""
POWER_LOSS = 105
"""A scenario in which a living worker's server loses the last part of its run."""


@pytest.fixture(params=REAL)
def binary(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(binary: str, tmp_path: Path) -> Iterator[Server]:
    with Server(binary, tmp_path) as made:
        yield made


@pytest.mark.parametrize("agent", AGENTS)
def test_the_search_reaches_every_exec_of_an_agent(agent: str, server: Server, tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary")
    with armed(Fuse(diary, 0, "before", lambda: None)):
        assert live(agent, "run", server.url, diary)
    account = diary.account()
    assert account.execs == EXECS
    assert list(wrongs(read(server, "run"), account)) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_that_dies_at_an_exec_loses_nothing_and_nothing_is_applied_twice(
    moment: Moment, server: Server, tmp_path: Path
) -> None:
    tally, rng = Tally(), random.Random(f"{SEED} {moment}")
    points = [(agent, n) for agent in AGENTS for n in range(1, EXECS + 1)]
    drawn = [*rng.sample(points, 5), ("blocking", EXECS)]
    for number, (agent, n) in enumerate(drawn):
        room = Room(server, tmp_path, f"run-{number}", rng, tally)
        assert Death(agent, n, moment).play(room) == [], f"{agent}, at EXEC {n}"
    assert tally.fired == tally.deaths == len(drawn)
    if moment == "applied":
        assert tally.notes["applied unanswered, settled"] >= len(drawn) - 3, "a claim has no entry of its own"


# -- power ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return power_loss.shim(tmp_path_factory.mktemp("shim"))
    except power_loss.NotHere as why:
        pytest.skip(str(why))


@pytest.mark.parametrize("heir", [False, True], ids=["living", "heir"])
def test_what_a_power_loss_takes_with_everysec_is_named_to_who_knew_it_and_bought_again_by_who_could_not(
    binary: str, library: Path, tmp_path: Path, heir: bool
) -> None:
    mains = power_loss.Mains(binary, tmp_path, "everysec", library)
    with mains.server:
        for n in range(TRIES):  # a sync that comes right before the power goes leaves nothing to lose
            (room := tmp_path / str(n)).mkdir()
            outcome = power_loss.play(mains, room, random.Random(SEED + n), heir=heir)
            assert outcome.wrong == []
            if outcome.lost:
                break
    assert outcome.lost > 0, "nothing was lost, so nothing is shown"
    assert outcome.named != heir


def test_a_power_loss_takes_nothing_that_was_acknowledged_with_always(
    binary: str, library: Path, tmp_path: Path
) -> None:
    mains = power_loss.Mains(binary, tmp_path, "always", library)
    with mains.server:
        outcome = power_loss.play(mains, tmp_path, random.Random(SEED), heir=False)
    assert (outcome.lost, outcome.wrong) == (0, [])


def test_a_power_loss_would_be_silent_if_lengths_were_not_compared(library: Path) -> None:
    (blind,) = (variant for variant in VARIANTS if variant.name == "lengths-not-compared")
    found = (violation.what for _ in range(TRIES) for violation in search(1, POWER_LOSS, blind).violations)
    assert any("was told []" in what for what in found)


def test_without_a_compiler_a_power_loss_is_skipped_and_never_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "cc" else which(name))
    tally = search(1, POWER_LOSS)
    assert (tally.scenarios, tally.fired, len(tally.skipped)) == (0, 0, 1)


# -- failover ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", failover.WHO)
def test_after_a_failover_to_a_replica_that_lags_no_stale_write_lands_and_the_stale_worker_is_told(
    who: failover.Who, binary: str, tmp_path: Path
) -> None:
    assert failover.play(binary, tmp_path, random.Random(SEED), who) == []

"""The searches for violations: a quick one finds none, and finds each broken variant of the library."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faults.engines import ENGINES
from faults.figures import figures
from faults.grid import pairs
from faults.scenario import Scenario
from faults.settling import Clean
from faults.variants import Variant

ROOT = Path(__file__).parent.parent
SEARCH = [sys.executable, "-m", "tests.faults", "-o", "json"]
PROMISED = {"scenarios": 20_000, "controls": 15}
QUICK = 750


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What a quick search prints."""
    done = subprocess.run([*SEARCH, "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.stdout, done.stderr[-5000:]
    return json.loads(done.stdout) | {"code": done.returncode}


@pytest.mark.timeout(900)
def test_nothing_is_violated(found: dict[str, Any]) -> None:
    assert found["violated"] == []
    assert (found["violations"], found["code"]) == (0, 0)


@pytest.mark.timeout(900)
def test_every_fault_that_was_planned_has_happened(found: dict[str, Any]) -> None:
    assert found["fired"] == found["scenarios"] >= QUICK
    assert found["engines"]["grid"]["notes"]["never came to it"] == 0, "each place of the grid is met"
    assert found["deaths"] > QUICK / 4
    assert set(found["engines"]) == {engine.name for engine in ENGINES}
    assert all(tally["scenarios"] for tally in found["engines"].values())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("engine", "variant"), [(engine.name, variant.name) for engine in ENGINES for variant in engine.variants]
)
def test_each_broken_variant_is_caught(found: dict[str, Any], engine: str, variant: str) -> None:
    assert found["engines"][engine]["controls"][variant] is not None


def test_each_rule_of_the_protocol_has_a_broken_variant() -> None:
    broken = {variant.rule for engine in ENGINES for variant in engine.variants}
    assert {f"rule {number}" for number in range(1, 16)} <= broken


@pytest.mark.parametrize("variant", [v for e in ENGINES for v in e.variants], ids=lambda variant: variant.name)
def test_what_is_broken_is_there(variant: Variant) -> None:
    """A control that stumbles over a name that has gone would be caught whatever the library does."""
    with variant.broken():
        pass


def test_a_control_that_cannot_be_entered_is_an_error_and_is_not_caught() -> None:
    code = (
        "from unittest import mock\n"
        "from tests.faults.grid import caught\n"
        "from tests.faults.variants import Variant\n"
        "gone = Variant('gone', 'a rule', 'grid', lambda: mock.patch('agentcheckpoint.attempt.has_gone', None))\n"
        "print(list(caught([gone], [2], 0)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 1 and not done.stdout
    assert "does not have the attribute 'has_gone'" in done.stderr


def test_a_second_fault_is_planned_where_there_is_something_left_to_meet_it() -> None:
    clean = Clean([], 100, 0, 5)
    drawn = itertools.islice(pairs(1, clean, random.Random(1)), 2000)
    tails = [(first.n, second.n) for first, second in (one.faults for one in drawn) if not first.deadly]
    assert len(tails) > 500 and all(first + second <= 101 for first, second in tails)
    assert any(first == 100 for first, _ in tails)


def test_a_scenario_is_its_seed() -> None:
    for seed in ("a3:r41.cut-after", "a0:h2.kill-inside+r7.delay", "a11:p5.kill", "a2:"):
        assert str(Scenario.parse(seed)) == seed


@pytest.mark.parametrize("seed", ["", "a3", "a3:r41", "a3:r41.unknown", "a3:p1.cut-before", "b1:r1.delay"])
def test_what_is_no_scenario_is_refused(seed: str) -> None:
    done = subprocess.run([*SEARCH, "--replay", seed], cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_scenario_is_played_again_by_its_seed() -> None:
    replay = [*SEARCH, "--replay", "a1:r60.kill-after"]
    done = subprocess.run(replay, cwd=ROOT, capture_output=True, text=True, timeout=250)
    said = json.loads(done.stdout)
    assert (said["scenarios"], said["fired"], said["deaths"], said["violations"]) == (1, 1, 1, 0)


def test_a_scenario_whose_place_is_never_met_is_a_violation() -> None:
    replay = [*SEARCH, "--replay", "a0:r9999.cut-after"]
    done = subprocess.run(replay, cwd=ROOT, capture_output=True, text=True, timeout=250)
    said = json.loads(done.stdout)
    assert (said["scenarios"], said["fired"], said["violations"], done.returncode) == (1, 0, 1, 1)
    assert "never met" in said["violated"][0]


def test_the_figures_in_the_docs_are_those_of_a_full_search_of_this_grid() -> None:
    full = figures()
    assert full["violations"] == 0 and full["fired"] == full["scenarios"] >= PROMISED["scenarios"]
    assert full["controls_caught"] == full["controls"] >= PROMISED["controls"]
    caught = {name: set(engine["controls"]) for name, engine in full["engines"].items()}
    assert caught == {engine.name: {variant.name for variant in engine.variants} for engine in ENGINES}

"""The benchmarks run, and say of each row what they should. No time is asserted: only what is the same each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def benchmarks(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the rows that were printed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "-o", "json", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("name", "value", "goal"),
    [
        ("commits.round_trips", 1, "exactly 1"),
        ("model_calls.live_round_trips", 2, "exactly 2"),
        ("model_calls.replayed_requests", 0, "exactly 0"),
    ],
)
def test_what_is_counted_is_exact(name: str, value: float, goal: str) -> None:
    code, (row,) = benchmarks("--only", name)
    assert code == 0
    assert (row["value"], row["goal"], row["ok"], row["spread"]) == (value, goal, True, [value, value])
    assert row["name"]


def test_a_row_that_is_timed_has_a_median_within_its_spread_and_says_whether_it_is_good() -> None:
    code, (row,) = benchmarks("--only", "commits.store_against_a_pipeline")
    assert 0 < row["spread"][0] <= row["value"] <= row["spread"][1]
    assert row["goal"] == "at most 0.7"
    assert row["ok"] == (row["value"] <= 0.7) == (code == 0)

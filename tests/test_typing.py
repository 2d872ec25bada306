"""The package and what users see of it, under mypy and pyright, and the benchmarks, under mypy: all strict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param(["mypy"], id="mypy"),
        pytest.param(["pyright", "--pythonpath", sys.executable], id="pyright"),
    ],
)
def test_the_package_and_the_public_surface_pass_the_checker(checker: list[str]) -> None:
    outcome = subprocess.run([sys.executable, "-m", *checker], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr

"""The examples of steps and cursors, on a real server: killed by SIGKILL in the middle of a step, and resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcheckpoint.store.embedded import ensure_server, stop_server

EXAMPLES = Path(__file__).parents[1] / "examples"
INDEXED = [f"indexed document {n}" for n in range(1, 7)]
PROCESSED = [f"processed {i} / {j}" for i in (1, 2, 3) for j in (1, 2)]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield ensure_server(tmp_path).url
    stop_server(tmp_path)


@pytest.mark.parametrize(("script", "lines"), [("cursor_documents", INDEXED), ("nested_cursor", PROCESSED)])
def test_a_killed_example_goes_on_where_it_was(url: str, script: str, lines: list[str]) -> None:
    command = [sys.executable, str(EXAMPLES / f"{script}.py"), "r"]
    environment = {**os.environ, "AGENTCHECKPOINT_URL": url, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as life:
        assert life.stdout is not None
        first = [life.stdout.readline().strip() for _ in range(3)]
        life.kill()
        first += life.stdout.read().splitlines()
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert again.returncode == 0, again.stderr
    second = again.stdout.splitlines()
    assert first == lines[: len(first)] and second == lines[len(lines) - len(second) :]
    # What was printed last, and not noted before the kill, is done again: one item at most.
    assert len(lines) <= len(first) + len(second) <= len(lines) + 1


def test_a_pipeline_that_is_killed_goes_on_with_the_step_that_was_under_way(url: str) -> None:
    command = [sys.executable, str(EXAMPLES / "pipeline_steps.py"), "r"]
    environment = {**os.environ, "AGENTCHECKPOINT_URL": url, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as life:
        assert life.stdout is not None
        assert [life.stdout.readline() for _ in range(2)] == ["downloading\n", "transforming\n"]
        life.kill()
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert again.stdout == "transforming\nloading [1, 2, 3]\n3 rows\n", again.stderr
    third = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert third.stdout == "3 rows\n", third.stderr

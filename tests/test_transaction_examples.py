"""The examples of transactional steps, run as their users run them, and killed between the two commits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcheckpoint.store.embedded import stop_server

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_server(tmp_path / "state")


def example(home: Path, name: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    told = {key: value for key, value in os.environ.items() if key != "AGENTCHECKPOINT_URL"}
    told |= {"AGENTCHECKPOINT_HOME": str(home / "state"), "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1", **more}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, env=told, cwd=home, capture_output=True, text=True, timeout=120)


def test_a_transfer_that_is_killed_between_its_two_commits_happens_once(home: Path) -> None:
    killed = example(home, "sql_step.py", "bank.db", DIE="1")
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "deciding\ntransferring\n"), killed.stderr
    resumed = example(home, "sql_step.py", "bank.db")
    assert resumed.stdout == "{'ann': 90, 'bob': 10}\n", resumed.stderr


def test_a_withdrawal_happens_once(home: Path) -> None:
    first, again = (example(home, "redis_transaction.py") for _ in range(2))
    assert first.stdout == "withdrawing\n90 left after 1 withdrawal(s)\n", first.stderr
    assert again.stdout == "90 left after 1 withdrawal(s)\n", again.stderr

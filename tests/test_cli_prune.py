"""``agentcheckpoint prune`` as a process: what it deletes, what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.servers import Server
from old_runs import ask, old_run

import agentcheckpoint as ac
from agentcheckpoint.store.server_binary import find_binary

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    room: Path = tmp_path_factory.mktemp("cli-prune")
    with Server(str(find_binary()), room) as server:
        yield server.url


def prune(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "agentcheckpoint", "prune", *words],
        env={**os.environ, "AGENTCHECKPOINT_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_was_freed_is_printed_on_stdout_and_what_was_skipped_on_stderr(url: str) -> None:
    old_run(url, "a", 31)
    ask(url, "ZADD", "ac:{runs-default}:opened", 1, "bad\x01name")
    dry = prune(url, "--dry-run", "-o", "json")
    told = json.loads(dry.stdout)
    assert (dry.returncode, told["runs"], told["dry_run"], told["skipped"][0]["run"]) == (0, 1, True, "bad\x01name")
    ran = prune(url)
    assert ran.returncode == 0 and ran.stdout.splitlines()[0].startswith("deleted 1 run, ")
    assert "note: skipped 'bad\\x01name'" in ran.stderr
    with pytest.raises(ac.RunNotFound):
        ac.get("a", store=url)


def test_ages_are_said_by_state_and_ledgers_can_be_kept(url: str) -> None:
    old_run(url, "b", 2)
    old_run(url, "c", 2, "failed")
    ran = prune(url, "--completed", "36h", "--failed", "never", "--keep-ledger", "--store", url)
    assert ran.returncode == 0 and "completed: 1 run" in ran.stdout and "kept their ledgers" in ran.stdout
    assert ac.costs(runs="b", store=url).total.paid == 10**9 and ac.get("c", store=url).state == "failed"


@pytest.mark.parametrize("words", [("--completed", "soon"), ("--failed", "-1d"), ("--limit", "-1")])
def test_wrong_usage_is_said_in_a_sentence(url: str, words: tuple[str, ...]) -> None:
    ran = prune(url, *words)
    assert ran.returncode == 2 and ran.stdout == "" and words[0] in ran.stderr


def test_a_store_that_is_not_there_is_exit_code_5() -> None:
    assert prune("redis://127.0.0.1:1").returncode == 5

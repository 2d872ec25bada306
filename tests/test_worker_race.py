"""Eight workers race for the same runs: each is worked on to its end once, and nothing is done twice.

``RACE_RUNS=200`` makes it the full race.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from faults.servers import Server, binaries
from worked_agents import done

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done

RUNS, WORKERS = int(os.environ.get("RACE_RUNS", "60")), 8

pytestmark = [
    pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning"),
    pytest.mark.skipif("redis" not in binaries(), reason="no redis-server"),
]


def test_of_eight_workers_one_does_each_step_of_each_run(tmp_path: Path) -> None:
    journal, script = tmp_path / "journal", Path(__file__).parent / "racing_workers.py"
    with Server(binaries()["redis"], tmp_path) as server:
        words = [sys.executable, str(script), server.url, str(journal), str(RUNS), str(WORKERS)]
        raced = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert raced.returncode == 0, raced.stderr
        told = [json.loads(line) for line in raced.stdout.splitlines()]
        views = [ac.get(f"r{n}", store=server.url) for n in range(RUNS)]
        assert ac.sweep(store=server.url) == ac.Swept()
    assert {view.state for view in views} == {"completed"}
    assert all(sum(isinstance(entry, Done) for entry in view.entries) == 2 for view in views), "a step committed twice"
    whole = [f"r{n} {what}" for n in range(RUNS) for what in ("0", "1", "end")]
    assert Counter(done(journal)) == Counter(whole), "a step was done twice, or a body came to its end twice"
    assert {view.attempt for view in views} == {1}
    assert {line["error"] for line in told} <= {None, "RunBusy"}
    assert len(told) >= RUNS and {line["run"] for line in told} == {view.id for view in views}

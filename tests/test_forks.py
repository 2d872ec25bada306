"""Forks of a process that has a store, a run or a step open: none inherits a right, none shares a connection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from memory_runs import leased
from preforked import STEPS
from servers import embedded_url

import agentcheckpoint as ac

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

TOTAL = sum(range(STEPS))


def play(url: str, shape: str) -> Any:
    script = str(Path(__file__).parent / "preforked.py")
    return json.loads(subprocess.check_output([sys.executable, script, url, shape], text=True, timeout=250))


def test_a_child_that_is_forked_inside_a_step_has_a_run_of_its_own_and_no_right_to_its_parents(
    embedded_url: str,
) -> None:
    said = play(embedded_url, "inside a step")
    child = said["child"]
    assert child["its parent's step"] == "RunMisuse"
    assert child["its parent's run"] == "RunBusy", "the parent is alive and at it"
    assert child["in a run"] is False
    assert child["total"] == TOTAL
    assert child["pid"] != said["pid"] and child["connection"] != said["connection"]
    parent = ac.get("parent", store=embedded_url)
    assert (parent.state, parent.attempt) == ("completed", 1)
    assert {row.slot for row in parent.steps} == {"forking", "forking/beside the child", "after"}
    assert ac.get("child", store=embedded_url).state == "completed"
    assert not leased(embedded_url, "parent")


def test_children_of_a_template_that_has_opened_the_store_serve_at_the_same_time(embedded_url: str) -> None:
    said = play(embedded_url, "prefork")
    assert [job["total"] for job in said["jobs"]] == [TOTAL] * 5
    connections = [job["connection"] for job in said["jobs"]]
    assert len(set(connections)) == 5, "each process has connections of its own"
    for name in ("template", *(f"job-{n}" for n in range(4))):
        view = ac.get(name, store=embedded_url)
        assert (view.state, view.attempt, len(view.steps)) == ("completed", 1, STEPS)
    shared = ac.get("shared", store=embedded_url)
    opened = [said for said in said["shared"] if said != "RunBusy"]
    assert len(opened) == shared.attempt >= 1
    assert len(shared.steps) == STEPS and shared.state == "completed"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_inside_a_run(embedded_url: str, method: str) -> None:
    said = play(embedded_url, method)
    assert [job["total"] for job in said["jobs"]] == [TOTAL] * 4
    assert said["pid"] not in {job["pid"] for job in said["jobs"]}
    pool = ac.get("pool", store=embedded_url)
    assert pool.state == "completed"
    assert [row.slot for row in pool.steps] == ["before", "after"]
    assert all(ac.get(f"{method}-{n}", store=embedded_url).state == "completed" for n in range(4))

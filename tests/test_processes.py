"""Several real processes at one run: busy, killed, paused, and forked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from memory_runs import leased
from servers import embedded_url

import agentcheckpoint as ac

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

HERE = Path(__file__).parent
FORKS = """
import json, os, sys
import agentcheckpoint as ac

def name(call):
    try:
        return repr(call())
    except ac.AgentCheckpointError as exc:
        return type(exc).__name__

def in_the_child(run):
    yield name(lambda: run.step("in the child", int))
    with ac.run("own", store=sys.argv[1]) as own:
        yield name(lambda: own.step("own step", int))

said, child = [], None
try:
    with ac.run("fork", store=sys.argv[1]) as run:
        run.step("before", int)
        child = os.fork()
        if child == 0:
            said += in_the_child(run)
        else:
            os.waitpid(child, 0)
            run.step("after", int)
except ac.RunMisuse:
    said.append("left by RunMisuse")
print(json.dumps([*said, run.state]), flush=True)
"""


@contextmanager
def worker(url: str, run_id: str, lease: float = 30) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "other_worker.py"), url, run_id, str(lease)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return said(process)


def test_a_run_that_another_process_works_on_is_busy(embedded_url: str) -> None:
    with worker(embedded_url, "busy") as first:
        assert said(first) == "open"
        with pytest.raises(ac.RunBusy) as caught, ac.run("busy", store=embedded_url):
            raise AssertionError("it was opened twice")
        assert f"pid {first.pid} on" in caught.value.owner
        with worker(embedded_url, "busy") as second:
            assert said(second) == "busy"
        assert go_on(first) == "done attempt 1 attempt 1"
    assert not leased(embedded_url, "busy")


def test_the_run_of_a_killed_process_is_taken_over_at_once_and_goes_on_after_its_last_step(embedded_url: str) -> None:
    with worker(embedded_url, "killed") as first:
        assert said(first) == "open"
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert leased(embedded_url, "killed")
        with worker(embedded_url, "killed") as second:
            assert said(second) == "open"
            assert go_on(second) == "done attempt 1 attempt 2"


def test_a_worker_that_was_paused_past_its_lease_is_fenced_off(embedded_url: str) -> None:
    with worker(embedded_url, "paused", lease=0.2) as first:
        assert said(first) == "open"
        first.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 60
        while leased(embedded_url, "paused"):
            assert time.monotonic() < deadline, "the lease does not expire"
            time.sleep(0.02)
        with worker(embedded_url, "paused") as second:
            assert said(second) == "open"
            first.send_signal(signal.SIGCONT)
            assert go_on(first) == "lost attempt 1"
            assert go_on(second) == "done attempt 1 attempt 2"


def test_a_forked_child_cannot_write_to_its_parents_run_but_to_its_own(embedded_url: str) -> None:
    command = [sys.executable, "-c", FORKS, embedded_url]
    child, parent = (json.loads(line) for line in subprocess.check_output(command, text=True).splitlines())
    assert child == ["RunMisuse", "0", "left by RunMisuse", "running"]
    assert parent == ["completed"]
    view = ac.get("fork", store=embedded_url)
    assert [row.slot for row in view.steps] == ["before", "after"]
    assert ac.get("own", store=embedded_url).state == "completed"

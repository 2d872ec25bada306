"""A worker that is killed, told to end, or stopped past its leases, with a run in each state: another one goes on.

One worker has five runs: one inside a step, one that sleeps, one that waits, one that failed and is to be retried, and
one whose end was asked for while it is inside a step.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.servers import Server, binaries, until
from worked_agents import done, failing, held, sleeping, waiting

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done

LEASE = 1.0
"""Seconds: shorter than the worker is stopped for, and long enough for a busy machine to renew it."""
AGENTS = [agent.using(lease=LEASE) for agent in (failing, held, sleeping, waiting)]
RUNS = {"running": held, "sleeping": sleeping, "waiting": waiting, "retryable": failing, "cancelling": held}

pytestmark = [
    pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning"),
    pytest.mark.skipif("redis" not in binaries(), reason="no redis-server"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(binaries()["redis"], tmp_path) as server:
        yield server


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKED_JOURNAL", str(tmp_path / "journal"))
    return tmp_path / "journal"


@pytest.fixture
def worker(server: Server, journal: Path) -> Iterator[subprocess.Popen[bytes]]:
    """It has come as far with each run as it can."""
    for run_id, agent in RUNS.items():
        agent.using(store=server.url).submit(run_id, *((run_id, 4.0) if agent is sleeping else (run_id,)))
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import agentcheckpoint as ac, test_worker_killed as here
ac.Worker(here.AGENTS, store={server.url!r}, poll=0.05).run()
"""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], cwd=Path(__file__).parent.parent)
    expected = {"running": "running", "cancelling": "running", "sleeping": "waiting", "waiting": "waiting"}
    until(lambda: len(done(journal)) == 7, "each run has done its part")
    until(
        lambda: all(states(server)[run] == state for run, state in {**expected, "retryable": "retryable"}.items()),
        "each run stands as it is to stand",
    )
    assert ac.cancel("cancelling", store=server.url) is False
    yield process
    process.kill()
    process.wait()


def states(server: Server) -> dict[str, str]:
    return {run_id: ac.get(run_id, store=server.url).state for run_id in RUNS}


def let_go(journal: Path) -> None:
    (journal.parent / "journal.leave").touch()


def go_on(server: Server, journal: Path) -> None:
    """What another worker makes of the runs, while somebody answers and retries them."""
    (journal.parent / "journal.pass").touch()
    for run_id in ("waiting", "retryable"):
        ac.retry(run_id, store=server.url)
    heir = ac.Worker(AGENTS, store=server.url, poll=0.05, until_idle=True, on_attempt=lambda *_: None)

    def ended() -> bool:
        heir.run()
        return set(states(server).values()) == {"completed", "cancelled"}

    until(ended, "each run has come to its end")
    ends = states(server)
    assert ends.pop("cancelling") == "cancelled" and set(ends.values()) == {"completed"}


def committed_twice(server: Server) -> list[str]:
    twice: list[str] = []
    for run_id in RUNS:
        slots = Counter(entry.slot for entry in ac.get(run_id, store=server.url).entries if isinstance(entry, Done))
        twice += [f"{run_id} {slot}" for slot, times in slots.items() if times > 1]
    return twice


def done_twice(journal: Path) -> list[str]:
    return sorted(line for line, times in Counter(done(journal)).items() if times > 1)


def test_sigkill(worker: subprocess.Popen[bytes], server: Server, journal: Path) -> None:
    worker.kill()
    worker.wait()
    let_go(journal)
    began = time.monotonic()
    go_on(server, journal)
    assert time.monotonic() - began < 15
    assert not committed_twice(server)
    assert done_twice(journal) == ["running 1"], "what was under way, and not recorded, is done again; nothing else is"
    assert "cancelling 2" not in done(journal)


def test_sigterm(worker: subprocess.Popen[bytes], server: Server, journal: Path) -> None:
    worker.terminate()
    time.sleep(0.3)
    let_go(journal)
    assert worker.wait(20) == 0
    assert states(server)["running"] == "interrupted" and states(server)["cancelling"] == "cancelled"
    go_on(server, journal)
    assert not committed_twice(server) and not done_twice(journal)
    assert "cancelling 2" not in done(journal)


def test_sigstop_past_the_lease(worker: subprocess.Popen[bytes], server: Server, journal: Path) -> None:
    worker.send_signal(signal.SIGSTOP)
    time.sleep(LEASE + 0.5)
    let_go(journal)
    go_on(server, journal)
    logs = {run_id: len(ac.get(run_id, store=server.url).entries) for run_id in RUNS}
    worker.send_signal(signal.SIGCONT)  # it ends its steps now, and commits into names that nothing points to
    worker.terminate()
    assert worker.wait(20) == 0
    assert {run_id: len(ac.get(run_id, store=server.url).entries) for run_id in RUNS} == logs
    assert not committed_twice(server)
    assert done_twice(journal) == ["running 1"]
    assert "cancelling 2" not in done(journal)

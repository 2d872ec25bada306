"""The worker of one machine: what it works on, what it leaves alone, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from faults.servers import Server, binaries, until
from memory_runs import ask, fresh
from typer.testing import CliRunner
from worked_agents import blocking, done, failing, leaving, sleeping, unblocking

import agentcheckpoint as ac
from agentcheckpoint.cli.main import app
from agentcheckpoint.jobs.worker import NEXT
from agentcheckpoint.store.keys import due_key

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKED_JOURNAL", str(tmp_path / "journal"))
    return tmp_path / "journal"


class Told:
    """What a worker says."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, ac.Worked]] = []
        self.notes: list[str] = []

    def attempt(self, run_id: str, agent: str, worked: ac.Worked, seconds: float) -> None:
        self.attempts.append((run_id, worked))


def work(url: str, *agents: object, told: Told | None = None, concurrency: int = 4) -> Told:
    told = told or Told()
    ac.Worker(
        agents, store=url, concurrency=concurrency, poll=0.02, until_idle=True,
        on_attempt=told.attempt, on_note=told.notes.append,
    ).run()  # fmt: skip
    return told


def state(url: str, run_id: str) -> str:
    return ac.get(run_id, store=url).state


def test_submitted_runs_are_worked_on_in_threads_and_on_a_loop(journal: Path) -> None:
    url = fresh()
    for n in range(3):
        blocking.using(store=url).submit(f"b{n}", f"b{n}", 2, 0.01)
        unblocking.using(store=url).submit(f"u{n}", f"u{n}", 2, 0.01)
    told = work(url, blocking, unblocking)
    assert sorted(told.attempts) == [
        (run, ac.Worked("completed", None, None)) for run in ("b0", "b1", "b2", "u0", "u1", "u2")
    ]
    assert len(done(journal)) == len({*done(journal)}) == 18
    assert blocking.using(store=url).run("b0", "b0", 2, 0.01) == 2, "its caller reads the output"


def test_what_is_due_longest_is_among_the_next_few() -> None:
    url, waiting = fresh(), [f"{n * 7 % 40}" for n in range(40)]
    for due, name in enumerate(waiting, start=1_000):
        blocking.using(store=url).submit(name, name, 1, 0)
        ask(url, "ZADD", due_key("default"), str(due), name)
    told = work(url, blocking, concurrency=1)
    assert len(told.attempts) == 40
    for run_id, _ in told.attempts:
        assert waiting.index(run_id) < NEXT
        waiting.remove(run_id)


def test_a_run_that_sleeps_goes_on_when_its_time_has_come(journal: Path) -> None:
    url = fresh()
    sleeping.using(store=url).submit("r", "r", 0.3)
    told = work(url, sleeping)
    assert [(worked.state, type(worked.error)) for _, worked in told.attempts] == [("waiting", ac.Suspended)]
    time.sleep(0.35)
    work(url, sleeping, told=told)
    assert state(url, "r") == "completed" and done(journal) == ["r 0", "r 1"]


def test_a_run_that_fails_without_a_policy_is_left_alone_until_it_is_retried(journal: Path) -> None:
    url = fresh()
    failing.using(store=url).submit("r", "r")
    told = work(url, failing)
    work(url, failing, told=told)
    ((_, worked),) = told.attempts
    assert (worked.state, worked.due_ms) == ("retryable", None) and isinstance(worked.error, ValueError)
    (journal.parent / "journal.pass").touch()
    ac.retry("r", store=url)
    work(url, failing, told=told)
    assert state(url, "r") == "completed" and done(journal) == ["r 0"], "its first step was not run again"


def test_runs_of_others_are_left_alone_and_that_is_said_once() -> None:
    url, told = fresh(), Told()
    for n in range(3):
        failing.using(store=url).submit(f"r{n}", f"r{n}")
    with pytest.raises(ac.Interrupted), ac.run("plain", store=url):
        raise ac.Interrupted
    work(url, blocking, told=told)
    assert not told.attempts
    assert sorted(told.notes) == [
        "run 'plain' is due, and others may be, that only who opened them can go on with.",
        "runs of agent 'failing' are due, and left to others.",
    ]
    assert sorted(ac.sweep(store=url).due) == ["r0", "r1", "r2"]


def test_a_run_that_ends_its_thread_or_cannot_begin_stops_nobody(journal: Path) -> None:
    url, told = fresh(), Told()
    leaving.using(store=url).submit("leaves", "leaves")
    with pytest.raises(ac.Interrupted):
        stubborn.using(store=url).run("unstored", object())
    blocking.using(store=url).submit("good", "good", 1, 0)
    work(url, leaving, blocking, stubborn, told=told)
    ends = dict(told.attempts)
    assert isinstance(ends["leaves"].error, SystemExit) and isinstance(ends["unstored"].error, ac.RunMisuse)
    assert ends["good"].state == "completed" and len(told.attempts) == 3, "each was tried once, and not in a circle"


@ac.agent
def stubborn(what: object) -> int:
    raise ac.Interrupted


def test_what_on_attempt_raises_stops_nobody() -> None:
    url, notes = fresh(), list[str]()
    for n in range(3):
        blocking.using(store=url).submit(f"r{n}", f"r{n}", 1, 0)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    ac.Worker([blocking], store=url, until_idle=True, on_attempt=broken, on_note=notes.append).run()
    assert {state(url, f"r{n}") for n in range(3)} == {"completed"}
    assert notes == ["on_attempt= raised ZeroDivisionError()"]


def test_no_more_runs_than_asked_for_at_a_time() -> None:
    url, lock, here, most = fresh(), threading.Lock(), list[int](), list[int]()

    @ac.agent
    def counting(n: int) -> int:
        with lock:
            here.append(n)
            most.append(len(here))
        time.sleep(0.05)
        with lock:
            here.remove(n)
        return n

    for n in range(6):
        counting.using(store=url).submit(f"r{n}", n)
    work(url, counting, concurrency=2)
    assert max(most) == 2 and len(most) == 6


def test_a_cancelled_run_of_a_dead_worker_is_ended_and_not_begun(journal: Path) -> None:
    url = fresh()
    blocking.using(store=url).submit("r", "r", 1, 0)
    from agentcheckpoint.core.ids import run_tag
    from agentcheckpoint.store.keys import RunKeys

    ask(url, "SET", RunKeys(run_tag("default", "r")).cancel, "no more")
    assert not work(url, blocking).attempts
    assert state(url, "r") == "cancelled" and not done(journal)


@pytest.mark.parametrize("agents", [[], [blocking, blocking], [done]], ids=["none", "two of a name", "no agent"])
def test_what_is_no_set_of_agents_is_refused(agents: list[object]) -> None:
    with pytest.raises(ac.RunMisuse, match="agents="):
        ac.Worker(agents)  # type: ignore[arg-type]


def test_it_is_stopped_from_python_after_the_step_under_way(journal: Path) -> None:
    url = fresh()
    blocking.using(store=url).submit("r", "r", 100, 0.05)
    worker = ac.Worker([blocking], store=url, poll=0.02)
    threading.Timer(0.4, worker.stop).start()
    assert worker.run() == 1
    assert state(url, "r") == "interrupted"
    recorded = [row for row in ac.get("r", store=url).steps if row.outcome == "done"]
    assert 1 <= len(recorded) == len(done(journal)) < 100


# -- as a command -----------------------------------------------------------------------------------------------------


def command(url: str, *words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "agentcheckpoint", "worker", *words, "--store", url, "--poll", "0.05", "-o", "jsonl"]
    return subprocess.Popen(line, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.skipif("redis" not in binaries(), reason="no redis-server")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_at_the_next_commits_and_a_server_may_restart_meanwhile(
    number: signal.Signals, tmp_path: Path, journal: Path
) -> None:
    with Server(binaries()["redis"], tmp_path) as server:
        blocking.using(store=server.url).submit("b", "b", 1000, 0.02)
        unblocking.using(store=server.url).submit("u", "u", 1000, 0.02)
        worker = command(server.url, "tests.worked_agents:blocking", "tests.worked_agents:unblocking")
        try:
            until(lambda: len(done(journal)) > 6, "it works")
            server.restart()
            seen = len(done(journal))
            until(lambda: len(done(journal)) > seen + 6, "it goes on when the server is back")
            worker.send_signal(number)
            out, err = worker.communicate(timeout=30)
        finally:
            worker.kill()
        assert worker.returncode == 0, err
        told = {line["run"]: line for line in map(json.loads, out.splitlines())}
        assert {run: line["state"] for run, line in told.items()} == {"b": "interrupted", "u": "interrupted"}
        assert len(done(journal)) == len({*done(journal)}), "a step was done twice"
        assert ac.sweep(store=server.url).due == {"b": "blocking", "u": "unblocking"}


@pytest.mark.parametrize("place", ["worked_agents", "worked_agents:done", "no_such_module:agent"])
def test_an_agent_that_is_not_there_is_wrong_usage(place: str) -> None:
    used = CliRunner().invoke(app, ["worker", place, "--store", fresh()])
    assert used.exit_code == 2 and f"'{place}'" in used.output


def test_the_command_says_a_line_for_each_run() -> None:
    url = fresh()
    blocking.using(store=url).submit("good", "good", 1, 0)
    failing.using(store=url).submit("bad", "bad")
    words = ["worker", "worked_agents:blocking", "worked_agents:failing", "--store", url, "--until-idle"]
    used = CliRunner().invoke(app, words)
    assert used.exit_code == 0 and not used.stdout
    lines = used.stderr.splitlines()
    assert lines[0] == "working on runs of blocking, failing, 10 at a time"
    assert sorted(re.sub("[0-9.]+ s", "N s", line) for line in lines[1:]) == [
        "blocking good: completed, N s",
        "failing bad: retryable, N s: ValueError: not yet",
    ]

"""An agent whose process dies each time: workers give it up, since each attempt may pay. Real processes, SIGKILL."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from faults.servers import Server, binaries

import agentcheckpoint as ac
from agentcheckpoint.core.models import Closed, Done, Inputs, LogEntry, Opened, Payload, Revived
from agentcheckpoint.core.tries import deaths
from agentcheckpoint.opening import MOST_DEATHS

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
ON_A_SERVER = pytest.mark.skipif("redis" not in binaries(), reason="no redis-server")


fresh: list[int] = []
"""What this process has recorded."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@ac.step
def look(n: int) -> int:
    fresh.append(n)
    return n


@ac.agent
def poisoned(steps: int) -> None:
    """Its process dies after one more of these steps; or at once, if there are none."""
    for n in range(steps):
        look(n)
        if fresh:
            die()
    die()


def in_child(work: Callable[[], Any]) -> int:
    """How a child that does this ends."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(binaries()["redis"], tmp_path_factory.mktemp("server")) as server:
        yield server.url


def kill_attempts(url: str, run_id: str, times: int) -> None:
    for _ in range(times):
        assert in_child(lambda: ac.work_on(poisoned, run_id, store=url)) == signal.SIGKILL


@ON_A_SERVER
def test_a_run_whose_attempts_die_without_a_step_is_given_up_by_workers_and_goes_on_by_retry(url: str) -> None:
    in_child(lambda: poisoned.using(store=url).submit("loop", 0))
    kill_attempts(url, "loop", MOST_DEATHS)
    worked = ac.work_on(poisoned, "loop", store=url)
    assert (worked.state, worked.due_ms, type(worked.error)) == ("failed", None, ac.CrashLoop)
    assert "ac.retry('loop')" in str(worked.error)
    last = ac.get("loop", store=url).attempts[-1]
    assert last.error is not None and last.error.type.endswith("CrashLoop")
    ac.retry("loop", store=url)
    kill_attempts(url, "loop", 1)  # it was let go on


@ON_A_SERVER
def test_attempts_that_record_a_step_each_are_not_given_up(url: str) -> None:
    in_child(lambda: poisoned.using(store=url).submit("far", 100))
    kill_attempts(url, "far", MOST_DEATHS + 2)


@ON_A_SERVER
def test_whoever_opens_the_run_himself_is_not_refused(url: str) -> None:
    in_child(lambda: poisoned.using(store=url).submit("mine", 0))
    kill_attempts(url, "mine", MOST_DEATHS)
    assert in_child(lambda: poisoned.using(store=url).resume("mine")) == signal.SIGKILL


def entry(kind: str, n: int) -> LogEntry:
    made: dict[str, LogEntry] = {
        "open": Opened(id=str(n), at=n, attempt=n + 1, worker="w"),
        "step": Done(id=str(n), at=n, slot="s", inputs=Inputs(digest="d"), payload=Payload(size=1)),
        "close": Closed(id=str(n), at=n, state="interrupted"),
        "revive": Revived(id=str(n), at=n),
    }
    return made[kind]


@pytest.mark.parametrize(
    ("told", "died"),
    [
        ("open", 0),
        ("open open", 1),
        ("open open open", 2),
        ("open step open", 0),
        ("open open step open", 0),
        ("open step open open", 1),
        ("open open close open", 0),
        ("open open close open open", 1),
        ("open open revive open", 0),
        ("open open revive open open", 1),
    ],
)
def test_only_attempts_that_died_without_a_step_count(told: str, died: int) -> None:
    assert deaths([entry(kind, n) for n, kind in enumerate(told.split())]) == died

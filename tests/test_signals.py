"""SIGTERM and SIGINT in the middle of a step: what is paid is recorded, and somebody else goes on at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_runs import leased
from protocol.servers import embedded_url as embedded_url

import agentcheckpoint as ac
from agentcheckpoint.core.models import Closed, Done
from agentcheckpoint.store import leases

SCRIPT = Path(__file__).parent / "signalled.py"

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


class Script:
    """The script, inside its step ``two``."""

    def __init__(self, url: str, run_id: str, kind: str) -> None:
        words = [sys.executable, str(SCRIPT), url, run_id, kind]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.line() == "in"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end_step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def script(request: pytest.FixtureRequest, embedded_url: str) -> Iterator[Script]:
    script = Script(embedded_url, request.node.name, request.node.callspec.params["kind"])
    yield script
    script.close()


def recorded(url: str, run_id: str) -> list[str]:
    return [entry.slot for entry in ac.get(run_id, store=url).entries if isinstance(entry, Done)]


def go_on(url: str, run_id: str) -> float:
    """Seconds until an heir has the run."""
    began = time.monotonic()
    with ac.run(run_id, store=url) as run:
        took = time.monotonic() - began
        assert run.step("two", str) == "two", "what the signalled process had paid for was bought again"
    return took


@pytest.mark.parametrize(
    "kind, here",
    [
        pytest.param("blocking", True, id="blocking"),
        pytest.param("loop", False, id="loop, seen from elsewhere"),
        pytest.param("threads", False, id="threads, seen from elsewhere"),
    ],
)
def test_sigterm_ends_the_attempt_once_the_step_is_recorded(
    script: Script, kind: str, here: bool, embedded_url: str, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run_id = request.node.name
    script.process.send_signal(signal.SIGTERM)
    with pytest.raises(ac.RunBusy):
        go_on(embedded_url, run_id)
    script.end_step()
    assert script.line().startswith(f"interrupted run '{run_id}' is interrupted: SIGTERM")
    assert script.process.wait(20) == 0
    view = ac.get(run_id, store=embedded_url)
    assert view.state == "interrupted" and recorded(embedded_url, run_id) == ["one", "two"]
    (closed,) = [entry for entry in view.entries if isinstance(entry, Closed)]
    assert closed.error is None and closed.due is not None, "an interrupt is no failure, and is gone on from"
    assert not leased(embedded_url, run_id)
    if not here:  # from a machine that cannot see whether the process has died
        monkeypatch.setattr(leases, "provably_dead", lambda _: False)
    with pytest.warns(ac.UnmetStepsWarning):
        assert go_on(embedded_url, run_id) < 1


@pytest.mark.parametrize("kind", ["blocking"])
def test_a_second_sigterm_kills(script: Script, kind: str, embedded_url: str, request: pytest.FixtureRequest) -> None:
    for _ in range(2):
        script.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert script.process.wait(20) == -signal.SIGTERM
    assert recorded(embedded_url, request.node.name) == ["one"]


@pytest.mark.parametrize("kind", ["own"])
def test_a_program_with_its_own_way_is_left_alone(
    script: Script, kind: str, embedded_url: str, request: pytest.FixtureRequest
) -> None:
    script.process.send_signal(signal.SIGTERM)
    assert script.line() == "mine"
    script.end_step()
    assert script.line() == "done"
    assert ac.get(request.node.name, store=embedded_url).state == "completed"


@pytest.mark.parametrize("kind", ["blocking", "loop"])
def test_ctrl_c_breaks_off_the_step_and_gives_the_lease_back(
    script: Script, kind: str, embedded_url: str, request: pytest.FixtureRequest
) -> None:
    """Python's own: ``KeyboardInterrupt``, at once. A thread that a loop waits for ends in its own time."""
    script.process.send_signal(signal.SIGINT)
    if kind == "loop":
        time.sleep(0.3)
        script.end_step()
    assert script.process.wait(20) != 0
    view = ac.get(request.node.name, store=embedded_url)
    assert view.state == "interrupted" and not leased(embedded_url, view.id)
    assert [row.outcome for row in view.steps][:1] == ["done"]

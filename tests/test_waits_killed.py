"""Waits over the lives of several processes: ended, killed and stopped; the provider's journal says what was paid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from memory_runs import leased, logged
from servers import embedded_url

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Waiting
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import scripted
from agentcheckpoint.testing.provider import Provider

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

AGENT = Path(__file__).with_name("waiting_agent.py")


@dataclass(frozen=True)
class Scene:
    """A store, a provider, a run between them, and what its processes are forked from."""

    url: str
    provider: Provider
    run_id: str
    template: subprocess.Popen[str]

    def start(self, kind: str, point: str = "") -> None:
        assert self.template.stdin is not None
        self.template.stdin.write(json.dumps([self.run_id, self.provider.url, kind, point]) + "\n")
        self.template.stdin.flush()

    def hear(self) -> list[str]:
        """The next line that is said."""
        assert self.template.stdout is not None
        return self.template.stdout.readline().split()

    def end(self) -> tuple[int, str]:
        """The end of a life: its status, and its last words."""
        said: list[str] = []
        while (words := self.hear())[0] != "ended":
            said = words
        return int(words[1]), " ".join(said)

    def live(self, kind: str, point: str = "") -> tuple[int, str]:
        """One life."""
        self.start(kind, point)
        return self.end()

    def held(self, kind: str) -> int:
        """Starts a life that waits in place now; returns its process id."""
        self.start(kind)
        what, pid = self.hear()
        assert what == "holds"
        return int(pid)

    def check_money(self) -> None:
        """One call was made, once."""
        accounts = settle(self.provider.journal, ac.get(self.run_id, store=self.url).ledger)
        assert (len(self.provider.journal), accounts.paid_twice, accounts.problems) == (1, 0, ())


@pytest.fixture(scope="module")
def template(embedded_url: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(AGENT), embedded_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def scene(
    embedded_url: str, template: subprocess.Popen[str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    with Provider(scripted(*["a few words"] * 3), journal=tmp_path / "journal") as provider:
        yield Scene(embedded_url, provider, request.node.name, template)


def test_a_process_ends_and_another_goes_on_when_it_is_answered(scene: Scene) -> None:
    assert scene.live("ask 0") == (0, "suspended None")
    assert scene.live("ask 0") == (0, "suspended None")
    ac.answer(scene.run_id, "sure", True, store=scene.url)
    status, said = scene.live("ask 0")
    assert status == 0 and said.startswith("done") and said.endswith("True]")
    assert scene.live("ask 0") == (status, said)
    scene.check_money()


def test_the_time_runs_on_over_processes(scene: Scene) -> None:
    status, said = scene.live("sleep 3 0")
    (waiting,) = logged(scene.url, scene.run_id, Waiting)
    assert (status, said) == (0, f"suspended {waiting.until}")
    status, said = scene.live("sleep 3 30")
    assert said.startswith("done")
    (slept,) = [entry for entry in logged(scene.url, scene.run_id, Done) if entry.slot == "sleep"]
    assert waiting.until is not None and 0 <= slept.at - waiting.until < 2_500, "not 3 s after the second start"
    assert len(logged(scene.url, scene.run_id, Waiting)) == 1
    scene.check_money()


@pytest.mark.parametrize("kind", ["ask 60", "sleep 1 60"])
def test_killed_while_it_waits_in_place(scene: Scene, kind: str) -> None:
    os.kill(scene.held(kind), signal.SIGKILL)
    assert scene.end()[0] == -signal.SIGKILL
    if kind.startswith("ask"):
        ac.answer(scene.run_id, "sure", True, store=scene.url)
    assert scene.live(kind)[1].startswith("done")
    assert len(logged(scene.url, scene.run_id, Waiting)) == 1
    scene.check_money()


@pytest.mark.parametrize("point", ["waiting", "done"])
def test_killed_right_after_a_commit(scene: Scene, point: str) -> None:
    """Right after the wait was begun; or after the paid answer was recorded, before it."""
    assert scene.live("ask 0", point)[0] == -signal.SIGKILL
    assert scene.live("ask 0") == (0, "suspended None")
    ac.answer(scene.run_id, "sure", False, store=scene.url)
    assert scene.live("ask 0")[1].endswith("False]")
    assert len(logged(scene.url, scene.run_id, Waiting)) == 1
    scene.check_money()


def test_killed_when_the_answer_is_recorded_and_nobody_has_seen_it(scene: Scene) -> None:
    scene.live("ask 0")
    ac.answer(scene.run_id, "sure", True, store=scene.url)
    assert scene.live("ask 0", "done")[0] == -signal.SIGKILL
    assert scene.live("ask 0")[1].endswith("True]")
    assert len([entry for entry in logged(scene.url, scene.run_id, Done) if entry.slot == "sure"]) == 1
    scene.check_money()


def test_stopped_by_sigterm_while_it_waits_in_place_the_lease_is_free_at_once(scene: Scene) -> None:
    os.kill(scene.held("ask 60"), signal.SIGTERM)
    assert scene.end() == (0, "interrupted")
    assert not leased(scene.url, scene.run_id) and ac.get(scene.run_id, store=scene.url).state == "interrupted"
    ac.answer(scene.run_id, "sure", True, store=scene.url)
    assert scene.live("ask 0")[1].endswith("True]")
    scene.check_money()


def test_a_worker_that_holds_in_place_goes_on_when_another_process_answers(scene: Scene) -> None:
    scene.held("ask 60")
    ac.answer(scene.run_id, "sure", True, store=scene.url)
    assert scene.end()[1].endswith("True]")
    scene.check_money()

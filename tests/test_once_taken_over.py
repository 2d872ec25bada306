"""A worker that was paused or cut off is stopped by its intent before it acts, if another has taken the run over."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest
from memory_runs import fresh
from servers import embedded_url

import agentcheckpoint as ac
from agentcheckpoint import attempt as attempts
from agentcheckpoint.core.models import Intent
from agentcheckpoint.store.effects import Lost, Packet
from agentcheckpoint.store.thread_driver import ThreadDriver

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

ONCE = ac.Step("mail", effect="once", in_doubt="rerun")

PAUSED = """
import sys
import agentcheckpoint as ac

def wait() -> None:
    print("open", flush=True)
    sys.stdin.readline()

def send() -> str:
    print("sent", flush=True)
    return "by the paused one"

try:
    with ac.run("paused", store=sys.argv[1], lease=0.3) as run:
        wait()
        run.step(ac.Step("mail", effect="once"), send)
except ac.LeaseLost:
    print("lost", flush=True)
"""


def said(pipe: IO[str] | None, seconds: float = 30) -> str:
    assert pipe is not None and select.select([pipe], [], [], seconds)[0], "it says nothing"
    return pipe.readline().strip()


def test_a_worker_that_was_stopped_past_its_lease_sends_nothing(embedded_url: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PAUSED, embedded_url]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
    )
    try:
        assert said(worker.stdout) == "open"
        os.kill(worker.pid, signal.SIGSTOP)
        with ac.run("paused", store=embedded_url, wait=30) as run:
            assert run.step(ac.Step("mail", effect="once"), lambda: "by the heir") == "by the heir"
        os.kill(worker.pid, signal.SIGCONT)
        print(file=worker.stdin, flush=True)
        assert said(worker.stdout) == "lost"
    finally:
        worker.kill()
        worker.communicate()


@pytest.fixture
def overtaken(monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """A server at which the reply to an intent is lost, and an heir takes the run before that is settled."""
    url, heirs = fresh(), list[str]()
    real = ThreadDriver._perform

    def perform(driver: ThreadDriver, effect: Any, held: Any) -> Any:
        replies = real(driver, effect, held)
        if isinstance(effect, Packet) and b'"intent"' in str(effect.commands).encode() and not heirs:
            heirs.append("took over")
            monkeypatch.setattr(ThreadDriver, "_perform", real)
            time.sleep(0.1)
            with ac.run("r", store=url, wait=30) as run:
                heirs.append(run.step(ONCE, lambda: "sent by the heir"))
            raise Lost("its reply was lost")
        return replies

    monkeypatch.setattr(ThreadDriver, "_perform", perform)
    return url, heirs


def left_behind(url: str) -> list[str]:
    """What a worker sends whose intent was applied before its heir took over, though it learns of both only then."""
    sent: list[str] = []
    with pytest.raises(ac.LeaseLost), ac.run("r", store=url, lease=0.05) as run:
        run.step(ONCE, lambda: sent.append("by who was taken over"))
    return sent


@pytest.mark.filterwarnings("ignore:.*renew")
def test_who_learns_with_his_intent_that_he_has_an_heir_does_not_act(
    overtaken: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcheckpoint.opening.keep_alive", lambda _: None)
    url, heirs = overtaken
    assert left_behind(url) == []
    assert heirs == ["took over", "sent by the heir"]
    assert len([e for e in ac.get("r", store=url).entries if isinstance(e, Intent)]) == 2


def test_without_the_look_at_the_fence_he_acts(
    overtaken: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcheckpoint.opening.keep_alive", lambda _: None)
    url, heirs = overtaken

    def careless(site: Any, entries: Any) -> Any:
        from agentcheckpoint.flow import Perform
        from agentcheckpoint.store.commit import Change

        intent = Intent(id=attempts.new_id(), at=1, slot=site.slot, inputs=site.call.inputs, entries=entries)
        yield Perform(site.attempt.commit(Change(intent), site.call))

    monkeypatch.setattr("agentcheckpoint.once.intend", careless)
    assert left_behind(url) == ["by who was taken over"] and heirs

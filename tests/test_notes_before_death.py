"""Who dies or loses a line between two packets leaves no run that nobody finds: the list says enough before."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from memory_runs import ask, fresh
from servers import embedded_url

import agentcheckpoint as ac
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.keys import due_key
from agentcheckpoint.store.wire import Wire

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

DUE = due_key("default")
SOON = 4.0
"""Seconds in which anybody finds a run: the list says to look within two."""
DYING = """
import os, signal, sys, warnings
import agentcheckpoint as ac
from agentcheckpoint import opening, taking, waits
from agentcheckpoint.store import answers
from agentcheckpoint.store.wire import Wire

warnings.simplefilter("ignore")
url, run_id, words, exchange = sys.argv[1], sys.argv[2], sys.argv[3].split(), Wire.exchange


def dying(wire, commands):
    replies = exchange(wire, commands)
    if any(words[0] in map(str, command) for command in commands):
        words.pop(0)
        if not words:
            os.kill(os.getpid(), signal.SIGKILL)
    return replies


def nothing(*_):
    return True
    yield
"""
"""It kills itself when the words that it is given have been sent, one packet after the other, and answered."""
BEGINS = """
with ac.run(run_id, store=url):
    pass
"""
ANSWERS = 'ac.answer(run_id, "w", True, store=url)'
SUSPENDS = """
def answered_late(wait, entry, suspended=waits.suspended):
    Wire.exchange = exchange
    ac.answer(run_id, "w", True, store=url)
    Wire.exchange = dying
    return suspended(wait, entry)


waits.suspended = answered_late
with ac.run(run_id, store=url) as run:
    run.wait_for("w", bool)
"""
WITH_DUE_ALONE = """
def list_waiting(attempt, due_ms):
    yield from opening.list_due(attempt.namespace, attempt.run_id, due_ms)


opening.list_waiting = list_waiting
"""
CASES = {
    "a worker that has just taken it": (BEGINS, "RPUSH", "taking._announce = nothing"),
    "who has just answered it": (ANSWERS, "HSETNX", "answers.list_due = nothing"),
    "a worker that leaves it answered": (SUSPENDS, f"waiting {DUE}", WITH_DUE_ALONE),
}
"""What is done, after which packets its process dies, and how the library is broken to show that it counts."""


def found_after(url: str, case: str, broken: bool) -> bool:
    """Whether sweeps find the run that a process has left so."""
    life, words, without = CASES[case]
    run_id = f"{case}, {broken}"
    if life == ANSWERS:
        with pytest.raises(ac.Suspended), ac.run(run_id, store=url) as run:
            run.wait_for("w", bool)
    code = "\n".join((DYING, without * broken, "Wire.exchange = dying", life))
    done = subprocess.run([sys.executable, "-c", code, url, run_id, words], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        if run_id in ac.sweep(store=url).unowned:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_found_soon_though_it_was_left_by(case: str, embedded_url: str) -> None:
    assert found_after(embedded_url, case, broken=False)


@pytest.mark.parametrize("case", CASES)
def test_without_the_note_before_it_nobody_finds_the_run_left_by(case: str, embedded_url: str) -> None:
    assert not found_after(embedded_url, case, broken=True)


@ac.agent
def agent() -> bool:
    return ac.Run.current().wait_for("w", bool)


def losing(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """So many packets to the list of what is due get no answer, and are not applied."""
    exchange, left = Wire.exchange, [times]

    def exchanged(self: Any, commands: Any) -> Any:
        if any(DUE in command for command in commands) and left[0]:
            left[0] -= 1
            self.close()
            raise Lost("no answer")
        return exchange(self, commands)

    monkeypatch.setattr(Wire, "exchange", exchanged)


def test_a_note_that_gets_no_answer_is_made_again(monkeypatch: pytest.MonkeyPatch, embedded_url: str) -> None:
    losing(monkeypatch, 2)
    assert agent.using(store=embedded_url).submit("made again")
    assert ac.sweep(store=embedded_url).due["made again"] == "agent"


def test_a_submitted_run_that_cannot_be_listed_is_not_taken_for_handed_over(
    monkeypatch: pytest.MonkeyPatch, embedded_url: str
) -> None:
    losing(monkeypatch, 4)
    with pytest.raises(ac.StoreUnavailable, match="Do it again"):
        agent.using(store=embedded_url).submit("not listed")
    assert "not listed" not in ac.sweep(store=embedded_url, all=True).due
    assert not agent.using(store=embedded_url).submit("not listed")
    assert ac.sweep(store=embedded_url).due["not listed"] == "agent"


def test_a_note_of_a_run_that_waits_for_an_answer_is_dropped() -> None:
    url = fresh()
    agent.using(store=url).submit("r")
    assert ac.work_on(agent, "r", store=url).state == "waiting"
    ask(url, "ZADD", DUE, "0", "r")
    found = ac.sweep(store=url)
    assert not found.due and ask(url, "ZSCORE", DUE, "r") is None

"""Runs that wait, and the worker: it goes on with what is answered or over, and leaves alone what is not."""

from __future__ import annotations

import threading
import time

import pytest
from memory_runs import fresh, logged

import agentcheckpoint as ac
from agentcheckpoint.core.models import Closed, Opened


@ac.tool(approve=True)
def refund(order: int) -> str:
    return f"refunded {order}"


@ac.agent
def support(order: int) -> str:
    """Asks with a deadline, then for a yes."""
    run = ac.Run.current()
    amount = run.wait_for("amount", int, prompt=f"How much for {order}?", timeout=3600)
    return f"{refund(order)}: {amount}"


@ac.agent
async def reminding(seconds: float) -> str:
    await ac.AsyncRun.current().sleep(seconds, hold=0)
    return "slept"


def work(url: str) -> None:
    ac.Worker([support, reminding], store=url, poll=0.02, until_idle=True).run()


def attempts(url: str) -> int:
    return len(logged(url, "r", Opened))


def test_a_worker_goes_on_with_a_run_when_it_is_answered_and_not_before() -> None:
    url = fresh()
    support.using(store=url).submit("r", 7)
    for _ in range(2):
        work(url)
        assert (ac.get("r", store=url).state, attempts(url)) == ("waiting", 1)
    ac.answer("r", "amount", 120, store=url)
    for _ in range(2):
        work(url)
        assert (ac.get("r", store=url).state, attempts(url)) == ("waiting", 2), "now it waits for a yes"
    ac.answer("r", "refund", {"ok": True}, store=url)
    work(url)
    assert ac.get("r", store=url).state == "completed"
    assert support.using(store=url).run("r", 7) == "refunded 7: 120"


def test_a_worker_that_is_there_goes_on_at_once() -> None:
    url = fresh()
    support.using(store=url).submit("r", 7)
    worker = ac.Worker([support], store=url, poll=0.05)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        for name, value in (("amount", 120), ("refund", {"ok": True})):
            deadline = time.monotonic() + 30
            while not ac.waiting(store=url) and time.monotonic() < deadline:
                time.sleep(0.05)
            ac.answer("r", name, value, store=url)
        while ac.get("r", store=url).state != "completed" and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        worker.stop()
        thread.join()
    assert ac.get("r", store=url).state == "completed"


@pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.UnmetStepsWarning")
def test_a_worker_goes_on_with_a_sleeping_run_when_its_time_has_come() -> None:
    url = fresh()
    reminding.using(store=url).submit("r", 1.0)
    work(url)
    work(url)
    assert (ac.get("r", store=url).state, attempts(url)) == ("waiting", 1)
    time.sleep(1.1)
    work(url)
    assert ac.get("r", store=url).state == "completed"


def test_the_current_run_is_the_one_that_the_code_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    with pytest.raises(ac.RunMisuse, match="in no run"):
        ac.Run.current()
    with ac.run("outer", store=url) as run:
        assert ac.Run.current().id == run.id == "outer"
        assert ac.Run.current().finish({"n": 1}) == {"n": 1}
    (closed,) = logged(url, "outer", Closed)
    assert closed.output is not None, "what its current face finishes is the run's output"
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    assert ac.Run.current().step("s", int, "7") == 7

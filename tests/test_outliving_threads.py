"""Threads beyond the ordinary: fifty at once, ones that outlive their run, and ones that die."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from async_tools import slots
from memory_runs import fresh, leased, logged
from servers import embedded_url

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Failed

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

THREADS = 50
THINK = ac.Step("think", prices={"m": ac.Price(input="1", output="1")})


class Till:
    """Counts what is paid, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.paid = 0

    def pay(self, n: int) -> dict[str, Any]:
        with self._lock:
            self.paid += 1
        return {"n": n, "model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}}


def test_fifty_threads_pay_and_record_at_the_same_time(embedded_url: str) -> None:
    till, ready, results = Till(), threading.Barrier(THREADS), dict[int, Any]()

    def work(run: Any, n: int) -> None:
        ready.wait()
        results[n] = [run.llm(THINK, till.pay, n)["n"], run.step(ac.Step("fetch", key=str(n)), abs, -n)]

    for _ in range(2):
        results.clear()
        with ac.run("fifty", store=embedded_url) as run:
            threads = [threading.Thread(target=work, args=(run, n)) for n in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert results == {n: [n, n] for n in range(THREADS)}
    view = ac.get("fifty", store=embedded_url)
    done = [entry.slot for entry in view.entries if isinstance(entry, Done)]
    assert till.paid == THREADS and len(set(done)) == len(done) == 2 * THREADS
    assert view.cost.paid == THREADS * 1_000_000 and view.cost.unresolved == 0


def test_a_step_that_outlives_its_run_is_recorded_and_does_not_take_the_lease_back() -> None:
    url, inside, go_on, said = fresh(), threading.Event(), threading.Event(), list[Any]()

    def slow() -> int:
        inside.set()
        assert go_on.wait(60)
        return 7

    def outlive(run: Any) -> None:
        said.append(run.step("slow", slow))
        try:
            run.step("next", int)
        except ac.RunMisuse as exc:
            said.append(exc)

    with ac.run("r", store=url) as run:
        thread = threading.Thread(target=outlive, args=(run,))
        thread.start()
        assert inside.wait(60)
    go_on.set()
    thread.join()
    assert said[0] == 7 and isinstance(said[1], ac.RunMisuse)
    assert slots(url) == ["slow"]
    assert ac.get("r", store=url).state == "completed"
    assert not leased(url, "r")
    with ac.run("r", store=url) as run:
        assert run.step("slow", slow) == 7


def test_a_thread_that_dies_leaves_its_failure_and_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    url, died = fresh(), list[Any]()
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_value))

    def fail() -> None:
        raise ValueError("mine")

    with ac.run("r", store=url) as run:
        thread = threading.Thread(target=run.step, args=("bad", fail))
        thread.start()
        thread.join()
        assert run.step("good", int) == 0
    assert [str(error) for error in died] == ["mine"]
    assert [entry.slot for entry in logged(url, "r", Failed)] == ["bad"]
    assert ac.get("r", store=url).state == "completed"


def test_a_thread_that_leaves_a_step_by_system_exit_leaves_its_slot_free() -> None:
    url = fresh()

    def leave() -> None:
        raise SystemExit

    with ac.run("r", store=url) as run:
        keyed = ac.Step("s", key="k")

        def call() -> None:
            with pytest.raises(SystemExit):
                run.step(keyed, leave)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        assert run.step(keyed, int) == 0, "nobody waits for the one that has left"
    assert logged(url, "r", Failed) == []

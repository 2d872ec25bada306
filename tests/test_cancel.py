"""A run whose end is asked for from outside: at once if nobody works on it, else at its worker's next commit."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from memory_runs import ask, fresh, leased, logged

import agentcheckpoint as ac
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Closed, Done, Revived
from agentcheckpoint.options import RunOptions
from agentcheckpoint.store.asking import ask_end
from agentcheckpoint.store.keys import RunKeys

KEYS = RunKeys(run_tag("default", "r"))


def state(url: str) -> str:
    return ac.get("r", store=url).state


@ac.agent
def agent(question: str) -> str:
    return question.upper()


# -- nobody works on it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["submitted", "waiting", "retryable", "interrupted", "dead"])
def test_a_run_that_nobody_works_on_is_cancelled_at_once(how: str) -> None:
    url = fresh()
    errors = {"waiting": ac.Suspended("w"), "retryable": ValueError("r"), "interrupted": ac.Interrupted("i")}
    if how == "submitted":
        agent.using(store=url).submit("r", "q")
    elif how == "dead":
        with ac.run("r", store=url):
            pass
        token = ask(url, "GET", KEYS.head).decode()
        ask(url, "HSET", KEYS.meta(token), "state", "running")
    else:
        with pytest.raises(type(errors[how])), ac.run("r", store=url) as run:
            run.step("a", lambda: 1)
            raise errors[how]
    assert ac.cancel("r", reason="no more", store=url)
    assert state(url) == "cancelled" and not leased(url, "r")
    assert ac.sweep(store=url) == ac.Swept()
    closed = logged(url, "r", Closed)[-1]
    assert closed.error is not None and closed.error.message == "no more"
    assert ac.cancel("r", store=url), "asked twice"
    assert logged(url, "r", Closed)[-1] == closed
    with pytest.raises(ac.RunCancelled, match="no more"), ac.run("r", store=url):
        pass


def test_a_completed_run_cannot_be_cancelled_and_a_missing_one_is_not_found() -> None:
    url = fresh()
    with ac.run("r", store=url):
        pass
    with pytest.raises(ac.RunMisuse, match="it is completed"):
        ac.cancel("r", store=url)
    assert not ask(url, "EXISTS", KEYS.cancel)
    with pytest.raises(ac.RunNotFound):
        ac.cancel("other", store=url)
    ac.delete("r", store=url)
    with pytest.raises(ac.RunDeleted):
        ac.cancel("r", store=url)


def test_a_run_that_completes_while_its_end_is_asked_for_stays_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who asks has seen it running; his request must not linger and end what is done on it later."""
    from agentcheckpoint.jobs import ending

    url = fresh()
    asks = ending.ask_end

    def while_it_completes(fence: object, reason: str) -> object:
        protocol = asks(fence, reason)  # type: ignore[arg-type]
        opener = ac.run("r", store=url)
        opener.__enter__()
        seen = yield from protocol
        opener.__exit__(None, None, None)
        return seen

    with pytest.raises(ValueError), ac.run("r", store=url):
        raise ValueError
    monkeypatch.setattr(ending, "ask_end", while_it_completes)
    with pytest.raises(ac.RunMisuse, match="it is completed"):
        ac.cancel("r", store=url)
    assert state(url) == "completed" and not ask(url, "EXISTS", KEYS.cancel)


# -- somebody does ----------------------------------------------------------------------------------------------------


def test_a_worker_ends_right_after_the_commit_of_the_step_under_way() -> None:
    url, ran = fresh(), list[str]()

    def one() -> int:
        assert ac.cancel("r", reason="enough", store=url) is False
        return 1

    with pytest.raises(ac.Interrupted, match="enough"), ac.run("r", store=url) as run:
        run.step("one", one)
        ran.append("after")
    assert not ran, "what comes after the commit was still run"
    assert state(url) == "cancelled" and [done.slot for done in logged(url, "r", Done)] == ["one"]
    assert not leased(url, "r")


def test_a_worker_that_comes_to_its_end_before_it_hears_of_it_has_completed_the_run() -> None:
    url = fresh()
    with ac.run("r", store=url):
        ac.cancel("r", store=url)
    assert state(url) == "completed"


async def test_async_steps_that_run_side_by_side_are_all_recorded_or_refused() -> None:
    url = fresh()

    async def work(n: int) -> int:
        if n == 0:
            assert not await asyncio.to_thread(ac.cancel, "r", store=url)
        else:
            await asyncio.sleep(0.01 * n)
        return n

    with pytest.raises(ac.Interrupted):
        async with ac.run("r", store=url) as run:
            ends = await asyncio.gather(*(run.step("s", work, n) for n in range(4)), return_exceptions=True)
            assert all(isinstance(end, ac.Interrupted) for end in ends)
            await run.step("late", work, 9)
    assert state(url) == "cancelled"
    assert sorted(done.slot for done in logged(url, "r", Done)) == ["s", "s#2", "s#3", "s#4"], "what ran is recorded"


def test_steps_in_threads_are_recorded_and_no_new_one_begins() -> None:
    url, gate, ran = fresh(), threading.Barrier(3), list[int]()

    def work(n: int) -> int:
        gate.wait(10)
        ran.append(n)
        if n == 0:
            ac.cancel("r", store=url)
        else:
            time.sleep(0.05)
        return n

    with pytest.raises(ac.Interrupted), ac.run("r", store=url) as run, ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(run.step, ac.Step("s", key=str(n)), work, n) for n in range(3)]
        for call in calls:
            assert isinstance(call.exception(10), ac.Interrupted)
        run.step("late", ran.append, 9)
    assert state(url) == "cancelled" and sorted(ran) == [0, 1, 2]
    assert len(logged(url, "r", Done)) == 3


def test_an_end_that_is_heard_with_an_intent_stops_before_anything_is_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    url, paid = fresh(), list[str]()

    def pay() -> dict[str, str]:
        paid.append("paid")
        return {}

    with pytest.raises(ac.Interrupted), ac.run("r", store=url) as run:
        ac.cancel("r", store=url)
        run.llm("think", pay)
    assert not paid and state(url) == "cancelled"
    (entry,) = ac.get("r", store=url).ledger
    assert (entry.bill, entry.price) == ("not_billed", "never sent")


def test_what_is_paid_when_the_end_is_asked_for_is_recorded() -> None:
    url = fresh()

    def pay() -> dict[str, str]:
        assert not ac.cancel("r", store=url)
        return {"answer": "42"}

    with pytest.raises(ac.Interrupted), ac.run("r", store=url) as run:
        run.llm(ac.Step("think", cost="0.5"), pay)
    view = ac.get("r", store=url)
    assert [entry.bill for entry in view.ledger] == ["paid"] and str(view.cost).startswith("spent $0.50")


def test_an_idle_worker_hears_of_it_by_its_renewals() -> None:
    url = fresh()
    with pytest.raises(ac.Interrupted), ac.run("r", store=url, lease=0.15) as run:
        ac.cancel("r", store=url)
        time.sleep(0.4)
        assert run._attempt.fence.cancelled
        run.step("a", lambda: 1)
    assert state(url) == "cancelled" and not logged(url, "r", Done)


def test_who_waits_for_another_worker_hears_that_the_process_is_to_stop() -> None:
    url = fresh()
    with ac.run("r", store=url):
        threading.Timer(0.1, attempts_told).start()
        began = time.monotonic()
        with pytest.raises(ac.Interrupted), ac.run("r", store=url, wait=30):
            pass
        assert time.monotonic() - began < 10


def attempts_told() -> None:
    from agentcheckpoint.stopping import interrupt

    interrupt("test")


# -- and back ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancelled", "retryable", "waiting"])
def test_a_retried_run_is_due_now_and_keeps_what_it_has_recorded(how: str) -> None:
    url, ran = fresh(), list[int]()
    leave: BaseException = ac.Suspended("w", until_ms=2**52) if how == "waiting" else ValueError()

    @ac.agent
    def once() -> int:
        found = ac.step(name="a")(lambda: ran.append(1) or 7)()
        if len(ran) < 2 and leave is not None and not logged(url, "r", Revived):
            raise leave
        return int(found)

    mine = once.using(store=url)
    with pytest.raises(type(leave)):
        mine.run("r")
    if how == "cancelled":
        assert ac.cancel("r", store=url)
    assert not ac.sweep(store=url).due
    ac.retry("r", store=url)
    assert state(url) == "retryable" and ac.sweep(store=url).due == {"r": "once"}
    assert mine.resume("r") == 7 and ran == [1]


def test_what_cannot_be_retried_says_so() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.RunBusy):
            ac.retry("r", store=url)
        run.step("a", lambda: 1)
    with pytest.raises(ac.RunMisuse, match="is completed"):
        ac.retry("r", store=url)
    assert state(url) == "completed" and not leased(url, "r")
    with pytest.raises(ac.RunNotFound):
        ac.retry("other", store=url)


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_a_retry_that_dies_in_between_leaves_a_run_that_is_cancelled_or_revived(
    dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentcheckpoint.jobs import ending

    url = fresh()
    with pytest.raises(ValueError), ac.run("r", store=url):
        raise ValueError
    ac.cancel("r", store=url)
    steps = ("take_run", "take_back", "revive", "list_due")

    def dies(*_: object, **__: object) -> object:
        raise ac.StoreUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(ending, steps[dies_at - 1], dies)
        with pytest.raises(ac.StoreUnavailable):
            ac.retry("r", store=url)
    assert state(url) == ("retryable" if dies_at == 4 else "cancelled")
    ac.retry("r", store=url)
    assert state(url) == "retryable"


def test_a_completed_run_is_not_haunted_by_an_end_that_was_asked_for_too_late() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step("a", int, "1")
        ac.connect(url).run(ask_end(Attempt(None, "r", RunOptions()).fence, "too late"))
    assert ac.get("r", store=url).state == "completed"
    with ac.run("r", store=url) as run:  # it has a new step, and goes on
        assert (run.step("a", int, "1"), run.step("b", int, "2")) == (1, 2)
    assert ac.get("r", store=url).state == "completed"

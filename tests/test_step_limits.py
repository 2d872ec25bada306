"""Time limits of steps and runs: what is cancelled, what is left behind, and what of it is recorded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from counted import Counted
from memory_runs import fresh, logged
from tenacity import Retrying, stop_after_attempt

import agentcheckpoint as ac
from agentcheckpoint import attempt as attempts
from agentcheckpoint.core.models import Done, Failed, Intent, Withdrawn

CENT = 10**7
SHORT = 0.05


class Stuck:
    """A function that hangs until it is let go, and then goes on; told what it did then, when it has ended."""

    def __init__(self) -> None:
        self.entered, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.then: Callable[[], Any] = lambda: "late"
        self.outcome: Any = None

    def hang(self) -> Any:
        self.entered.set()
        assert self.go_on.wait(30)
        try:
            self.outcome = self.then()
        except BaseException as exc:
            self.outcome = exc
            raise
        finally:
            self.ended.set()
        return self.outcome

    def let_go(self) -> Any:
        self.go_on.set()
        assert self.ended.wait(30)
        return self.outcome


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    one = Stuck()
    yield one
    one.go_on.set()


def failures(url: str) -> list[tuple[str, str]]:
    return [(failed.slot, failed.error.type) for failed in logged(url, "r", Failed)]


# -- a step's limit, blocking -----------------------------------------------------------------------------------------


def test_a_function_that_takes_too_long_is_left_behind_and_its_late_result_thrown_away(stuck: Stuck) -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepTimeout, match=r"after its timeout= of 0\.05 s") as caught:
            run.step(ac.Step("s", timeout=SHORT), stuck.hang)
        assert isinstance(caught.value, TimeoutError) and caught.value.step == "s"
        assert stuck.let_go() == "late"
        assert run.step(ac.Step("s", timeout=30), Counted("again")) == "again"
    assert failures(url) == [("s", "StepTimeout")] and len(logged(url, "r", Done)) == 1


def test_a_function_within_its_limit_is_a_step_like_any_other() -> None:
    url = fresh()
    here = threading.current_thread()

    def fail() -> None:
        assert threading.current_thread() is not here and ac.idempotency_key()
        raise OSError("mine")

    with ac.run("r", store=url) as run:
        assert run.step(ac.Step("s", timeout=30), Counted("result")) == "result"
        with pytest.raises(OSError, match="mine"):
            run.step(ac.Step("t", timeout=30), fail)
        with pytest.raises(StopIteration):
            run.step(ac.Step("u", timeout=30), next, iter(()))
    assert failures(url) == [("t", "OSError"), ("u", "StopIteration")]


def test_a_commit_that_is_slow_is_not_timed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "after_commit", [lambda *_: time.sleep(2 * SHORT)])
    with ac.run("r", store=fresh()) as run:
        assert run.step(ac.Step("s", timeout=SHORT), Counted("result")) == "result"


def test_what_is_left_behind_can_call_no_more_steps(stuck: Stuck) -> None:
    url, inner = fresh(), Counted()

    @ac.step
    def decorated() -> object:
        return inner()

    for then in (lambda: run.step("inner", inner), decorated, ac.idempotency_key, lambda: run.llm("m", inner)):
        one = Stuck()
        one.then = then
        with ac.run("r", store=url) as run:
            with pytest.raises(ac.StepTimeout):
                run.step(ac.Step("s", timeout=SHORT), one.hang)
            assert isinstance(one.let_go(), ac.StepTimeout)
    assert not inner.calls and not logged(url, "r", Intent)


def test_it_can_call_none_either_when_its_run_is_closed(stuck: Stuck) -> None:
    inner = Counted()
    stuck.then = ac.step(name="inner")(inner)
    with pytest.raises(ac.StepTimeout), ac.run("r", store=fresh()) as run:
        run.step(ac.Step("s", timeout=SHORT), stuck.hang)
    assert isinstance(stuck.let_go(), ac.StepTimeout) and not inner.calls


def test_a_step_inside_that_ends_late_is_not_recorded_and_its_money_is_wasted(stuck: Stuck) -> None:
    url = fresh()
    outer, got = ac.Step("s", timeout=SHORT, ignore=("fn",)), list[Any]()

    def call(fn: Callable[[], Any]) -> Any:
        try:
            got.append(run.step(ac.Step("inner", key="k", cost="0.01"), fn))
        except ac.StepTimeout as exc:
            got.append(exc)
        return got[-1]

    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepTimeout):
            run.step(outer, call, stuck.hang)
        assert run.step(ac.Step("s", timeout=30, ignore=("fn",)), call, Counted("again")) == "again"
        stuck.let_go()
        wait_for(lambda: len(got) == 2)
        assert isinstance(got[1], ac.StepTimeout) and got[1].value == "late"
        assert (run.cost.paid, run.cost.wasted) == (CENT, CENT)
    assert [done.slot for done in logged(url, "r", Done)] == ["s/inner[k]", "s"]
    with ac.run("r", store=url) as run:
        assert run.step(outer, call, Counted("never")) == "again"


def test_the_check_for_late_results_notices_one_that_is_recorded(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcheckpoint.core.journal.Journal.land", lambda *_: True)
    with pytest.raises(AssertionError, match="isinstance"):
        test_a_step_inside_that_ends_late_is_not_recorded_and_its_money_is_wasted(stuck)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_result_that_is_being_stored_at_the_limit_is_waited_for_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    url, inner = fresh(), Counted("inner")
    landing, may_land = threading.Event(), threading.Event()
    real = attempts.Attempt.commit

    def slow(self: attempts.Attempt, change: Any, *args: Any) -> Any:
        if getattr(change.entry, "slot", "") == "s/inner" and not landing.is_set():
            landing.set()
            threading.Timer(0.2, may_land.set).start()
            assert may_land.wait(30)
        return (yield from real(self, change, *args))

    monkeypatch.setattr(attempts.Attempt, "commit", slow)
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepTimeout):
            run.step(ac.Step("s", timeout=SHORT), lambda: run.step("inner", inner))
        assert may_land.is_set()
        assert run.step("s", lambda: run.step("inner", inner)) == "inner"
    assert inner.calls == 1 and [done.slot for done in logged(url, "r", Done)] == ["s/inner", "s"]


def test_ctrl_c_leaves_a_function_with_a_limit_behind_and_records_nothing(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, inner = fresh(), Counted()

    def struck(*_: object) -> None:
        assert stuck.entered.wait(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        stuck.then = ac.step(name="inner")(inner)
        with monkeypatch.context() as patched:
            patched.setattr("agentcheckpoint.flow.wait", struck)
            run.step(ac.Step("s", timeout=30), stuck.hang)
    assert isinstance(stuck.let_go(), ac.Interrupted) and not inner.calls
    assert ac.get("r", store=url).state == "interrupted"
    assert not logged(url, "r", Failed) and not logged(url, "r", Done)


# -- money and effects ------------------------------------------------------------------------------------------------


def test_a_paid_step_that_takes_too_long_stays_unresolved(stuck: Stuck) -> None:
    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.StepTimeout):
            run.step(ac.Step("s", timeout=SHORT, cost="0.01"), stuck.hang)
        assert (run.cost.unresolved, run.cost.paid) == (1, 0)


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_step_that_must_not_happen_twice_is_in_doubt_when_it_takes_too_long(colour: str, stuck: Stuck) -> None:
    url = fresh()
    step = ac.Step("s", timeout=SHORT, effect="once")
    async with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepTimeout, match="in doubt"):
            await run.step(step, stuck.hang if colour == "sync" else hang_async)
        with pytest.raises(ac.StepInDoubt):
            await run.step(step, Counted())
    assert [failed.in_doubt for failed in logged(url, "r", Failed)] == [True]


async def hang_async() -> None:
    await asyncio.sleep(60)


# -- a step's limit, on a loop ----------------------------------------------------------------------------------------


async def test_a_coroutine_that_takes_too_long_is_cancelled() -> None:
    url, ended = fresh(), list[str]()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    async with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepTimeout) as caught:
            await run.step(ac.Step("s", timeout=SHORT), hang)
        assert ended == ["cancelled"] and isinstance(caught.value.__cause__, TimeoutError)
    assert failures(url) == [("s", "StepTimeout")]


async def test_a_cancellation_from_outside_is_no_time_out() -> None:
    url = fresh()
    async with ac.run("r", store=url) as run:
        task = asyncio.create_task(run.step(ac.Step("s", timeout=30), hang_async))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.02):
                await run.step(ac.Step("s", timeout=30), hang_async)
        assert not isinstance(caught.value, ac.StepTimeout)
    assert not failures(url)


async def test_a_cancellation_beats_a_limit_that_comes_while_it_unwinds() -> None:
    url = fresh()

    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.shield(asyncio.sleep(3 * SHORT))

    async with ac.run("r", store=url) as run:
        task = asyncio.create_task(run.step(ac.Step("s", timeout=2 * SHORT), slow_to_end))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not failures(url)


async def test_the_time_outs_of_a_function_are_its_own() -> None:
    url = fresh()

    async def impatient() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    async with ac.run("r", store=url) as run:
        with pytest.raises(TimeoutError) as caught:
            await run.step(ac.Step("s", timeout=30), impatient)
        assert not isinstance(caught.value, ac.StepTimeout)
    assert failures(url) == [("s", "TimeoutError")]


async def test_what_is_no_coroutine_function_has_a_thread_and_what_it_returns_is_awaited(stuck: Stuck) -> None:
    url = fresh()

    async def answer() -> str:
        assert threading.current_thread() is threading.main_thread()
        return ac.idempotency_key()

    async with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepTimeout):
            await run.step(ac.Step("s", timeout=SHORT), stuck.hang)
        with pytest.raises(ac.StepTimeout):
            await run.step(ac.Step("t", timeout=SHORT), lambda: hang_async())
        assert (await run.step(ac.Step("u", timeout=30), lambda: answer())).startswith("ac-")
        with pytest.raises(RuntimeError, match="raised StopIteration"):  # as of any coroutine
            await run.step(ac.Step("v", timeout=30), next, iter(()))
        stuck.let_go()


async def test_a_task_that_outlives_its_cancelled_step_can_call_no_more_steps() -> None:
    inner, late = Counted(), list[asyncio.Task[Any]]()

    async def later() -> None:
        await asyncio.sleep(2 * SHORT)
        await run.step("inner", inner)

    async def start() -> None:
        late.append(asyncio.create_task(later()))
        await asyncio.sleep(60)

    async with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.StepTimeout):
            await run.step(ac.Step("s", timeout=SHORT), start)
        with pytest.raises(ac.StepTimeout):
            await late[0]
    assert not inner.calls


async def test_a_call_that_was_made_and_not_awaited_by_then_is_not_made_any_more() -> None:
    inner, calls = Counted(), list[Any]()

    async def prepare() -> None:
        calls.append(run.step("inner", inner))
        await asyncio.sleep(60)

    async with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.StepTimeout):
            await run.step(ac.Step("s", timeout=SHORT), prepare)
        with pytest.raises(ac.StepTimeout):
            await calls[0]
    assert not inner.calls


# -- a run's limit ----------------------------------------------------------------------------------------------------


def test_a_runs_limit_ends_the_step_under_way_and_no_other_is_called(stuck: Stuck) -> None:
    url, more = fresh(), Counted()
    with pytest.raises(ac.RunTimeout) as caught, ac.run("r", store=url, timeout=SHORT) as run:
        with pytest.raises(ac.RunTimeout):
            run.step(ac.Step("s", timeout=30), stuck.hang)
        run.step("t", more)
    assert isinstance(caught.value, TimeoutError) and not more.calls
    assert ac.get("r", store=url).state == "retryable" and failures(url) == [("s", "RunTimeout")]
    with ac.run("r", store=url, timeout=30) as run:
        assert run.step("s", Counted("done")) == "done"


async def test_a_steps_own_limit_counts_where_it_is_shorter_and_the_runs_where_that_is() -> None:
    async with ac.run("r", store=fresh(), timeout=30) as run:
        with pytest.raises(ac.StepTimeout):
            await run.step(ac.Step("s", timeout=SHORT), hang_async)
    with pytest.raises(ac.RunTimeout):
        async with ac.run("q", store=fresh(), timeout=SHORT) as run:
            await run.step(ac.Step("s", timeout=30), hang_async)


async def test_the_limit_of_the_run_ends_nested_steps_by_one_error() -> None:
    url = fresh()
    with pytest.raises(ac.RunTimeout):
        async with ac.run("r", store=url, timeout=2 * SHORT) as run:

            async def outer() -> None:
                await run.step("inner", hang_async)

            await run.step("outer", outer)
    assert ("outer", "RunTimeout") in failures(url)


def test_it_counts_from_when_the_run_is_open_and_for_each_attempt_anew() -> None:
    url = fresh()
    held = threading.Event()

    def hold() -> None:
        with ac.run("r", store=url):
            held.set()
            time.sleep(3 * SHORT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    with ac.run("r", store=url, wait=30, timeout=2) as run:
        assert run.step("s", Counted("in time")) == "in time"
    thread.join()


def test_a_call_whose_time_is_up_with_its_intent_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    url, called = fresh(), Counted()

    def slow(_attempt: object, change: Any) -> None:
        if isinstance(change.entry, Intent):
            time.sleep(4 * SHORT)

    monkeypatch.setattr(attempts, "after_commit", [slow])
    with pytest.raises(ac.RunTimeout), ac.run("r", store=url, timeout=3 * SHORT) as run:
        run.step(ac.Step("s", effect="once"), called)
    assert not called.calls and len(logged(url, "r", Withdrawn)) == 1


@pytest.mark.parametrize("seconds", [0, -1, True, "1", float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(ac.RunMisuse, match="timeout"):
        ac.Step("s", timeout=seconds)
    with pytest.raises(ac.RunMisuse, match="timeout"):
        ac.run("r", store=fresh(), timeout=seconds)


def test_a_two_phase_step_and_a_charge_have_no_limit_of_their_own() -> None:
    with ac.run("r", store=fresh()) as run:
        for call in (lambda: run.begin(ac.Step("s", timeout=1)), lambda: run.charge(ac.Step("s", timeout=1), "1")):
            with pytest.raises(ac.RunMisuse, match="calls no function"):
                call()


def test_an_agents_attempts_have_a_limit_each(stuck: Stuck) -> None:
    url, attempts = fresh(), list[int]()

    @ac.agent(timeout=30, retry=Retrying(stop=stop_after_attempt(10)))
    def slow() -> Any:
        attempts.append(1)
        return ac.Run.current().step("s", stuck.hang if len(attempts) == 1 else Counted("done"))

    assert slow.using(store=url, timeout=SHORT).run("r") == "done"
    assert failures(url)[0] == ("s", "RunTimeout")
    outcomes = [row.outcome for row in ac.get("r", store=url).attempts]
    assert outcomes[0] == "retryable" and outcomes[-1] == "completed"

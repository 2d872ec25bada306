"""Steps under a policy: what is stored of their tries, what is waited, and what is raised in the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import tenacity
from memory_runs import fresh, logged
from tenacity import AsyncRetrying, RetryCallState, Retrying, stop_after_attempt, wait_fixed
from tenacity.asyncio import retry_if_exception as retry_if_exception_async

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Failed

THREE = Retrying(stop=stop_after_attempt(3))
PRICED = {"prices": {"m": ac.Price(input="1", output="1")}}


class Flaky:
    """Raises so many times, then returns; each call is noted."""

    def __init__(self, failures: int, error: Callable[[], BaseException] = lambda: ValueError("bad")) -> None:
        self.failures, self.error = failures, error
        self.calls: list[float] = []

    def __call__(self) -> str:
        self.calls.append(time.monotonic())
        if len(self.calls) <= self.failures:
            raise self.error()
        return "good"

    async def awaited(self) -> str:
        await asyncio.sleep(0)
        return self()


def call(url: str, step: ac.Step, fn: Flaky | Callable[..., Any], colour: str, run_id: str = "r") -> Any:
    """The step in a run of either colour."""
    if colour == "blocking":
        with ac.run(run_id, store=url) as run:
            return run.step(step, fn)

    async def main() -> Any:
        async with ac.run(run_id, store=url) as run:
            return await run.step(step, fn.awaited if isinstance(fn, Flaky) else fn)

    return asyncio.run(main())


COLOURS = pytest.mark.parametrize("colour", ["blocking", "async"])
POLICIES = pytest.mark.parametrize("kind", [Retrying, AsyncRetrying])


@COLOURS
@POLICIES
def test_a_step_is_tried_until_it_has_a_result(colour: str, kind: Any) -> None:
    url, fn = fresh(), Flaky(2)
    step = ac.Step("s", retry=kind(stop=stop_after_attempt(3), wait=wait_fixed(0.02)))
    assert call(url, step, fn, colour) == "good"
    failed = logged(url, "r", Failed)
    assert [(entry.slot, entry.error.type) for entry in failed] == [("s", "ValueError")] * 2
    assert [entry.next_at is not None and entry.next_at - entry.at for entry in failed] == [20, 20]
    assert len(logged(url, "r", Done)) == 1
    assert min(b - a for a, b in zip(fn.calls, fn.calls[1:], strict=False)) >= 0.019
    assert call(url, step, fn, colour) == "good" and len(fn.calls) == 3, "a result is replayed"


@COLOURS
def test_the_last_error_is_raised_unchanged_and_the_caller_may_try_once_more(colour: str) -> None:
    url, errors = fresh(), []

    def make() -> ValueError:
        errors.append(ValueError(len(errors) + 1))
        return errors[-1]

    fn = Flaky(99, make)
    for tries in (3, 4, 5):  # never none: that it is called again is a decision of its caller
        with pytest.raises(ValueError) as caught:
            call(url, ac.Step("s", retry=THREE), fn, colour)
        assert caught.value is errors[-1] and not hasattr(caught.value, "__notes__")
        assert len(fn.calls) == tries
    assert [entry.next_at is None for entry in logged(url, "r", Failed)] == [False, False, True, True, True]


def test_the_policys_own_functions_see_the_step_and_the_number() -> None:
    url, seen = fresh(), []

    def note(name: str) -> Callable[[RetryCallState], None]:
        return lambda state: seen.append((name, state.attempt_number, state.fn, state.args, state.kwargs))

    def work(a: int, *, b: int) -> int:
        raise ValueError

    policy = Retrying(
        stop=stop_after_attempt(2), before=note("before"), after=note("after"), before_sleep=note("before_sleep")
    )
    with ac.run("r", store=url) as run, pytest.raises(ValueError):
        run.step(ac.Step("s", retry=policy), work, 1, b=2)
    names = [("before", 1), ("after", 1), ("before_sleep", 1), ("before", 2), ("after", 2)]
    assert seen == [(name, number, work, (1,), {"b": 2}) for name, number in names]


@COLOURS
@pytest.mark.parametrize(
    "error", [TypeError, ac.BudgetExceeded, ac.StoreUnavailable, ac.RunMisuse, NotImplementedError]
)
def test_what_is_never_retried_is_not_whatever_the_policy_says(colour: str, error: type[Exception]) -> None:
    fn = Flaky(99, lambda: error("no"))
    step = ac.Step("s", retry=Retrying(retry=tenacity.retry_always))
    with pytest.raises(error):
        call(fresh(), step, fn, colour)
    assert len(fn.calls) == 1


@COLOURS
@pytest.mark.parametrize("error", [KeyboardInterrupt, ac.Suspended, ac.Interrupted, asyncio.CancelledError])
def test_what_unwinds_passes_a_policy_that_would_retry_it(colour: str, error: type[BaseException]) -> None:
    url, fn = fresh(), Flaky(99, error)
    step = ac.Step("s", retry=Retrying(retry=tenacity.retry_if_exception_type(BaseException)))
    with pytest.raises(error):
        call(url, step, fn, colour)
    assert len(fn.calls) == 1 and logged(url, "r", Failed) == []


def test_what_the_policy_does_not_cover_is_raised_at_once() -> None:
    fn = Flaky(1)
    with pytest.raises(ValueError):
        call(fresh(), ac.Step("s", retry=Retrying(retry=tenacity.retry_if_exception_type(OSError))), fn, "blocking")
    assert len(fn.calls) == 1


def test_try_again_is_tried_again_whatever_the_predicate_says() -> None:
    fn = Flaky(1, tenacity.TryAgain)
    assert call(fresh(), ac.Step("s", retry=Retrying(retry=tenacity.retry_never)), fn, "blocking") == "good"


@COLOURS
def test_the_callback_for_the_end_gives_a_value_that_is_not_recorded(colour: str) -> None:
    url, fn = fresh(), Flaky(4)
    policy = Retrying(
        stop=stop_after_attempt(2), retry_error_callback=lambda state: f"instead, after {state.attempt_number}"
    )
    step = ac.Step("s", retry=policy)
    assert call(url, step, fn, colour) == "instead, after 2"
    assert logged(url, "r", Done) == [] and len(logged(url, "r", Failed)) == 2
    assert call(url, step, fn, colour) == "instead, after 3"


# -- results that are refused -----------------------------------------------------------------------------------------


def buyer(*answers: str) -> Callable[[], dict[str, Any]]:
    given = iter(answers)
    return lambda: {"answer": next(given), "model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}}


def is_good(answer: dict[str, Any]) -> bool:
    return answer["answer"] == "good"


NOT_GOOD = tenacity.retry_if_not_result(is_good)
REJECTED = tenacity.retry_if_exception_type(ac.StepRejected)
REFUSALS = pytest.mark.parametrize(
    "step",
    [
        ac.Step("s", **PRICED, retry=Retrying(retry=NOT_GOOD, stop=stop_after_attempt(3))),
        ac.Step("s", **PRICED, retry=Retrying(retry=REJECTED, stop=stop_after_attempt(3)), accept=is_good),
    ],
    ids=["by the policy", "by accept"],
)


@REFUSALS
def test_a_refused_result_is_wasted_and_bought_again(step: ac.Step) -> None:
    url, ask = fresh(), buyer("poor", "poor", "good")
    with ac.run("r", store=url) as run:
        assert run.llm(step, ask)["answer"] == "good"
        assert (run.cost.paid, run.cost.wasted) == (1_000_000, 2_000_000)
    assert [entry.error.type for entry in logged(url, "r", Failed)] == ["StepRejected"] * 2


@REFUSALS
def test_the_last_refused_result_is_in_the_error(step: ac.Step) -> None:
    url, ask = fresh(), buyer("poor", "poor", "worst", "good")
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepRejected) as caught:
            run.llm(step, ask)
        assert isinstance(caught.value.value, dict) and caught.value.value["answer"] == "worst"
        assert run.cost.wasted == 3_000_000
        assert run.llm(step, ask)["answer"] == "good"


def test_a_policy_that_raises_at_a_result_does_not_lose_it() -> None:
    def trip(state: RetryCallState) -> bool:
        raise KeyError("mine")

    url = fresh()
    with ac.run("r", store=url) as run, pytest.raises(ac.StepRejected, match="KeyError") as caught:
        run.llm(ac.Step("s", **PRICED, retry=Retrying(retry=trip)), buyer("good"))
    assert caught.value.value is not None and isinstance(caught.value.__cause__, KeyError)
    assert ac.get("r", store=url).cost.wasted == 1_000_000


@COLOURS
@pytest.mark.parametrize("name", ["retry", "stop", "wait", "after", "before_sleep", "retry_error_callback"])
def test_a_policy_that_raises_at_an_error_is_heard_and_the_try_is_stored(colour: str, name: str) -> None:
    def trip(state: RetryCallState) -> Any:
        raise KeyError(name)

    url = fresh()
    stop = stop_after_attempt(1 if name == "retry_error_callback" else 2)
    with pytest.raises(KeyError, match=name):
        call(url, ac.Step("s", retry=Retrying(**{"stop": stop, name: trip})), Flaky(9), colour)
    assert [entry.error.type for entry in logged(url, "r", Failed)] == ["ValueError"]


# -- colours ----------------------------------------------------------------------------------------------------------


async def is_value_error(error: BaseException) -> bool:
    return isinstance(error, ValueError)


ASYNC = AsyncRetrying(retry=retry_if_exception_async(is_value_error), stop=stop_after_attempt(3))


def test_an_async_predicate_is_awaited_in_an_async_run_and_refused_in_a_blocking_one_before_anything_runs() -> None:
    fn = Flaky(2)
    assert call(fresh(), ac.Step("s", retry=ASYNC), fn, "async") == "good"
    fn = Flaky(2)
    with pytest.raises(ac.RunMisuse, match=r"'s': retry of its retry policy is async"):
        call(fresh(), ac.Step("s", retry=ASYNC), fn, "blocking")
    assert fn.calls == []
    with pytest.raises(ac.RunMisuse, match="is async"):
        ac.step(retry=ASYNC)(Flaky(1).__call__)


async def test_a_back_off_on_a_loop_does_not_block_it_and_can_be_cancelled() -> None:
    url, fn, ticks = fresh(), Flaky(9), 0
    async with ac.run("r", store=url) as run:
        task = asyncio.ensure_future(run.step(ac.Step("s", retry=Retrying(wait=wait_fixed(60))), fn.awaited))
        while ticks < 20 or not fn.calls:
            ticks += 1
            await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(fn.calls) == 1
    [failed] = logged(url, "r", Failed)
    assert failed.next_at is not None and failed.next_at - failed.at == 60_000


def test_a_decorated_step_and_a_tool_have_policies() -> None:
    url, fn = fresh(), Flaky(4)

    @ac.step(retry=THREE)
    def work() -> str:
        return fn()

    @ac.tool(retry=THREE)
    async def use() -> str:
        return fn()

    async def main() -> str:
        async with ac.run("r2", store=url):
            return await use.call("{}", id="call_1")

    with ac.run("r1", store=url):
        fn.failures = 2
        assert work() == "good"
        fn.failures = 5
    assert asyncio.run(main()) == "good" and len(fn.calls) == 6
    assert {entry.slot for entry in logged(url, "r2", Failed)} == {"use[call_1]"}


def test_a_body_and_a_charge_cannot_be_tried_again() -> None:
    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.RunMisuse, match=r"run\.begin takes no retry="):
            run.begin(ac.Step("s", retry=THREE))
        with pytest.raises(ac.RunMisuse, match="retry="):
            run.charge(ac.Step("s", retry=THREE), "0.1")


# -- the count goes on ------------------------------------------------------------------------------------------------


def test_a_later_attempt_goes_on_with_number_time_and_the_rest_of_the_wait() -> None:
    url, seen = fresh(), []

    def stop(state: RetryCallState) -> bool:
        seen.append((state.attempt_number, state.seconds_since_start, state.idle_for))
        return state.attempt_number >= 4

    policy = Retrying(stop=stop, wait=tenacity.wait_chain(wait_fixed(0.2), wait_fixed(0.02)))

    def interrupt(state: RetryCallState) -> None:
        raise KeyboardInterrupt  # as if it came while the step waits for its second try

    fn = Flaky(99)
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        run.step(ac.Step("s", retry=policy.copy(before_sleep=interrupt)), fn)
    [first] = logged(url, "r", Failed)
    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        run.step(ac.Step("s", retry=policy), fn)
    failed = logged(url, "r", Failed)
    assert first.next_at is not None and failed[1].at >= first.next_at
    assert [number for number, _, _ in seen] == [1, 2, 3, 4]
    assert [round(idle, 3) for _, _, idle in seen] == [0, 0.2, 0.22, 0.24]
    elapsed = [seconds for _, seconds, _ in seen]
    assert elapsed == sorted(elapsed) and elapsed[1] >= 0.199, "the time before the interrupt counts"


def test_a_result_ends_the_series() -> None:
    url, numbers = fresh(), []
    policy = Retrying(stop=stop_after_attempt(3), before=lambda state: numbers.append(state.attempt_number))
    step = ac.Step("s", key="k", retry=policy, on_mismatch="rerun")

    def work(x: int) -> int:
        if len(numbers) % 2:
            raise ValueError
        return x

    for x in (1, 2):
        with ac.run("r", store=url) as run:
            assert run.step(step, work, x) == x
    assert numbers == [1, 2, 1, 2]


def test_progress_inside_of_a_step_resets_the_count_of_its_tries() -> None:
    url, tries = fresh(), []

    def work() -> None:
        tries.append(1)
        if len(tries) in (2, 3):  # two that gain a step, then nothing new
            run.step(ac.Step("inner", key=str(len(tries))), lambda: 1)
        raise ValueError

    with ac.run("r", store=url) as run, pytest.raises(ValueError):
        run.step(ac.Step("s", retry=Retrying(stop=ac.stop_if_no_progress(3))), work)
    assert len(tries) == 6


def test_a_step_stops_when_its_run_has_cost_enough() -> None:
    url = fresh()
    step = ac.Step("s", **PRICED, retry=Retrying(retry=NOT_GOOD, stop=ac.stop_after_cost("0.003")))
    with ac.run("r", store=url) as run:
        run.charge("before", "0.001")
        with pytest.raises(ac.StepRejected):
            run.llm(step, buyer(*["poor"] * 9))
        assert (run.cost.paid, run.cost.wasted) == (1_000_000, 2_000_000)


# -- plain tenacity around a run --------------------------------------------------------------------------------------


def attempts(url: str, policy: Retrying, work: Callable[[ac.Run, int], object]) -> int:
    """How many attempts plain tenacity makes of a run."""
    count = 0
    with pytest.raises(ValueError):
        for attempt in policy.copy(reraise=True):
            with attempt, ac.run("r", store=url) as run:
                count += 1
                work(run, run.attempt)
                raise ValueError
    return count


def test_around_a_run_progress_is_counted_over_processes() -> None:
    url = fresh()

    def work(run: ac.Run, number: int) -> None:
        if number in (2, 3):
            run.step(f"step {number}", lambda: 1)

    policy = Retrying(stop=ac.stop_if_no_progress(3) | stop_after_attempt(99))
    assert attempts(url, policy, work) == 6
    assert attempts(url, policy, work) == 1, "one that begins later finds four attempts in a row without any"
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        run.step("news", lambda: 1)
        raise KeyboardInterrupt
    assert attempts(url, policy, lambda run, number: None) == 3


def test_around_a_run_its_cost_counts_wasted_and_unresolved_money_too() -> None:
    url = fresh()
    poor = ac.Step("s", **PRICED, accept=lambda answer: False)

    def work(run: ac.Run, number: int) -> None:
        with pytest.raises(ac.StepRejected):
            run.llm(poor, buyer("poor"))

    assert attempts(url, Retrying(stop=ac.stop_after_cost("0.003")), work) == 3

    def vanish() -> None:
        raise OSError("the line is dead")

    def lost(run: ac.Run, number: int) -> None:
        with pytest.raises(OSError):
            run.llm(ac.Step("t", max_cost="0.01"), vanish)

    assert attempts(url, Retrying(stop=ac.stop_after_cost("0.0225")), lost) == 2


def test_a_run_that_cannot_be_opened_is_tried_again_up_to_the_ceiling() -> None:
    url, tries = fresh(), []
    with ac.run("r", store=url), pytest.raises(ac.RunBusy):
        for attempt in Retrying(stop=ac.stop_after_cost(1) | ac.stop_if_no_progress(2, ceiling=4), reraise=True):
            with attempt:
                tries.append(1)
                with ac.run("r", store=url):
                    raise AssertionError
    assert len(tries) == 4


async def test_around_an_async_run_it_is_the_same() -> None:
    url, count = fresh(), 0
    with pytest.raises(ValueError):
        async for attempt in AsyncRetrying(stop=ac.stop_if_no_progress(2), reraise=True):
            with attempt:
                async with ac.run("r", store=url):
                    count += 1
                    raise ValueError
    assert count == 2

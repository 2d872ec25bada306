"""Nested steps, steps in two phases, and steps with keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from memory_runs import fresh, logged

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Failed


class Tools:
    """Functions that note when they really run."""

    def __init__(self) -> None:
        self.ran: list[object] = []

    def use(self, x: object) -> object:
        self.ran.append(x)
        return x


def slots(url: str) -> list[str]:
    return [entry.slot for entry in logged(url, "r", Done)]


# -- nesting ----------------------------------------------------------------------------------------------------------


def outer_of(run: ac.Run, tools: Tools, fail: bool) -> Callable[[], object]:
    def outer() -> object:
        found = [run.step("search", tools.use, n) for n in range(2)]
        run.step("deep", lambda: run.step("deeper", tools.use, "d"))
        if fail:
            raise ValueError("the outer step")
        return found

    return outer


def test_inner_steps_are_children_and_outlive_the_failure_of_the_outer_one() -> None:
    url, tools = fresh(), Tools()
    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        run.step("answer", outer_of(run, tools, fail=True))
    assert slots(url) == ["answer/search", "answer/search#2", "answer/deep/deeper", "answer/deep"]
    with ac.run("r", store=url) as run:
        assert run.step("answer", outer_of(run, tools, fail=False)) == [0, 1]
        run.step("search", tools.use, "outside")
    assert tools.ran == [0, 1, "d", "outside"]
    assert slots(url)[-2:] == ["answer", "search"]


def test_an_outer_step_retried_in_the_same_attempt_replays_its_children() -> None:
    url, tools = fresh(), Tools()
    with ac.run("r", store=url) as run:
        with pytest.raises(ValueError):
            run.step("answer", outer_of(run, tools, fail=True))
        run.step("answer", outer_of(run, tools, fail=False))
    assert tools.ran == [0, 1, "d"]


def test_a_replayed_outer_step_does_not_touch_its_children() -> None:
    url, tools = fresh(), Tools()
    with ac.run("r", store=url) as run:
        run.step("answer", outer_of(run, tools, fail=False))
    with ac.run("r", store=url) as run:
        run.step("answer", outer_of(run, tools, fail=False))
    assert run.cost.replayed == 1


# -- two phases -------------------------------------------------------------------------------------------------------


def test_begin_runs_its_body_once() -> None:
    url, made = fresh(), []
    for attempt in (1, 2):
        with ac.run("r", store=url) as run:
            with run.begin("draft", tuple[int, ...]) as begun:
                if not begun.done:
                    made.append(attempt)
                    assert begun.save((1, 2)) == (1, 2)
            assert begun.done
            assert begun.value == (1, 2)
    assert made == [1]


def test_leaving_without_saving_is_an_error_and_a_failed_attempt() -> None:
    url = fresh()
    with pytest.raises(ac.RunMisuse, match="without saving"), ac.run("r", store=url) as run, run.begin("draft"):
        pass
    assert [entry.slot for entry in logged(url, "r", Failed)] == ["draft"]


def test_an_exception_in_the_body_comes_through_and_is_a_failed_attempt() -> None:
    url, error = fresh(), ValueError("mine")
    with pytest.raises(ValueError) as caught, ac.run("r", store=url) as run, run.begin("draft"):
        raise error
    assert caught.value is error
    assert [entry.error.message for entry in logged(url, "r", Failed)] == ["mine"]


def test_an_interrupt_in_the_body_is_no_failure() -> None:
    url = fresh()
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run, run.begin("draft"):
        raise KeyboardInterrupt
    assert logged(url, "r", Failed) == []


def test_a_result_that_cannot_be_stored_fails_once_and_another_may_be_saved() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        for name in ("first", "second"):
            with run.begin(name) as begun:
                with pytest.raises(ac.ResultNotStorable):
                    begun.save(object())
                begun.save(name)
    with pytest.raises(ac.ResultNotStorable), ac.run("r2", store=url) as run, run.begin("draft") as begun:
        begun.save(object())
    assert len(logged(url, "r2", Failed)) == 1
    with ac.run("r", store=url) as run:
        with run.begin("first") as begun:
            assert begun.value == "first"
        with run.begin("second") as begun:
            assert begun.value == "second"
        with run.begin("first") as begun:
            assert not begun.done
            begun.save("another")
    assert slots(url) == ["first", "second", "first#2"]


def test_misuse_of_begin_is_said() -> None:
    with ac.run("r", store=fresh()) as run:
        begun = run.begin("draft")
        with pytest.raises(ac.RunMisuse, match="use it as"):
            begun.save(1)
        with begun:
            with pytest.raises(ac.RunMisuse, match="no result yet"):
                _ = begun.value
            begun.save(1)
            with pytest.raises(ac.RunMisuse, match="recorded already") as caught:
                begun.save(2)
            assert caught.value.value == 2
        with pytest.raises(ac.RunMisuse, match="entered before"), begun:
            raise AssertionError("it was entered again")


def test_nothing_is_saved_after_the_with_was_left() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        with pytest.raises(ValueError), run.begin("draft") as begun:
            raise ValueError
        with pytest.raises(ac.RunMisuse):
            begun.save(1)
    assert slots(url) == []


def test_steps_in_the_body_are_children() -> None:
    url, tools = fresh(), Tools()
    with ac.run("r", store=url) as run:
        with run.begin("draft") as begun:
            begun.save(run.step("part", tools.use, 1))
        run.step("part", tools.use, 2)
    assert slots(url) == ["draft/part", "draft", "part"]


async def test_begin_in_an_async_run() -> None:
    url, made = fresh(), []
    for attempt in (1, 2):
        async with ac.run("r", store=url) as run:
            async with run.begin("draft", int) as begun:
                if not begun.done:
                    made.append(attempt)
                    await run.step("part", str, 3)
                    assert await begun.save(7) == 7
            assert begun.value == 7
    assert made == [1]
    assert slots(url) == ["draft/part", "draft"]
    with pytest.raises(ac.RunMisuse, match="without saving"):
        async with ac.run("r2", store=url) as run, run.begin("draft"):
            pass


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_tells_calls_apart_in_any_order() -> None:
    url, tools = fresh(), Tools()
    for order in ("abc", "cab"):
        with ac.run("r", store=url) as run:
            assert [run.step(ac.Step("fetch", key=k), tools.use, k) for k in order] == list(order)
    assert tools.ran == list("abc")


def test_the_same_key_again_is_the_same_step() -> None:
    url, tools = fresh(), Tools()
    with ac.run("r", store=url) as run:
        assert [run.step(ac.Step("fetch", key="k"), tools.use, 1) for _ in range(3)] == [1, 1, 1]
        with pytest.raises(ac.StepMismatch):
            run.step(ac.Step("fetch", key="k"), tools.use, 2)
    assert tools.ran == [1]

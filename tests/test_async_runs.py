"""Async runs: parallel steps, steps that are never awaited or outlive their run, and functions of either colour."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from async_tools import Tool, slots
from memory_runs import fresh, leased, logged

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done

# -- parallel ---------------------------------------------------------------------------------------------------------


async def test_two_hundred_steps_at_once_are_recorded_and_replayed_in_any_order() -> None:
    url, tool = fresh(), Tool()
    async with ac.run("r", store=url) as run:
        assert await asyncio.gather(*(run.step("s", tool.use, n) for n in range(200))) == list(range(200))
    async with ac.run("r", store=url) as run:
        order = list(reversed(range(200)))
        assert await asyncio.gather(*(run.step("s", tool.use, n) for n in order)) == order
        assert run.cost.replayed == 200
    assert len(tool.ran) == len(set(slots(url))) == 200


async def test_a_new_call_among_parallel_ones_is_no_mismatch() -> None:
    url, tool = fresh(), Tool()
    async with ac.run("r", store=url) as run:
        await asyncio.gather(*(run.step("s", tool.use, n) for n in "ab"))
    with pytest.warns(ac.UnmetStepsWarning, match="'s'"):
        async with ac.run("r", store=url) as run:
            assert await asyncio.gather(*(run.step("s", tool.use, n) for n in "xb")) == ["x", "b"]
    assert tool.ran == ["a", "b", "x"]


async def test_one_that_fails_neither_loses_nor_skips_the_others() -> None:
    url, tool, down = fresh(), Tool(), [True]

    async def flaky(n: int) -> int:
        if n == 1 and down[0]:
            raise OSError
        return await tool.use(n)  # type: ignore[no-any-return]

    with pytest.raises(OSError):
        async with ac.run("r", store=url) as run:
            results = await asyncio.gather(*(run.step("s", flaky, n) for n in range(3)), return_exceptions=True)
            raise next(result for result in results if isinstance(result, OSError))
    down[0] = False
    async with ac.run("r", store=url) as run:
        assert await asyncio.gather(*(run.step("s", flaky, n) for n in range(3))) == [0, 1, 2]
    assert sorted(tool.ran) == [0, 1, 2]


async def test_calls_of_one_key_at_once_are_made_once() -> None:
    url, tool = fresh(), Tool()
    async with ac.run("r", store=url) as run:
        calls = [run.step(ac.Step("s", key="k"), tool.use, "v", 0.01) for _ in range(5)]
        assert await asyncio.gather(*calls) == ["v"] * 5
    assert tool.ran == ["v"]
    assert slots(url) == ["s[k]"]


async def test_the_slot_is_taken_when_the_step_is_called() -> None:
    url, tool = fresh(), Tool()
    async with ac.run("r", store=url) as run:
        first, second = run.step("s", tool.use, 1), run.step("s", tool.use, 2)
        await second
        await first
    assert slots(url) == ["s#2", "s"]


async def test_keyed_calls_may_be_awaited_in_any_order() -> None:
    url, tool = fresh(), Tool()
    async with ac.run("r", store=url) as run:
        first, second = (run.step(ac.Step("s", key="k"), tool.use, 1) for _ in range(2))
        assert await asyncio.wait_for(second, 10) == 1
        assert await first == 1
    assert tool.ran == [1]


# -- never awaited ----------------------------------------------------------------------------------------------------


async def test_a_step_that_is_never_awaited_breaks_no_other() -> None:
    url, tool = fresh(), Tool()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)
        for _ in range(2):
            async with ac.run("r", store=url) as run:
                run.step("s", tool.use, 1)
                run.step(ac.Step("s", key="k"), tool.use, 2)
                gc.collect()
                assert await run.step("s", tool.use, 1) == 1
                assert await run.step(ac.Step("s", key="k"), tool.use, 2) == 2
                assert await run.step("s", tool.use, 3) == 3
    assert tool.ran == [1, 2, 3]
    assert [entry.overlap for entry in logged(url, "r", Done)] == [False] * 3


async def test_a_step_that_is_awaited_after_the_run_is_refused_before_it_runs() -> None:
    tool = Tool()
    async with ac.run("r", store=fresh()) as run:
        late = run.step("s", tool.use, 1)
    with pytest.raises(ac.RunMisuse, match="not open"):
        await late
    assert tool.ran == []


async def test_a_step_that_outlives_its_run_is_recorded_and_does_not_reopen_it() -> None:
    url, tool, inside, go_on = fresh(), Tool(), asyncio.Event(), asyncio.Event()

    async def slow() -> int:
        inside.set()
        await go_on.wait()
        return await tool.use(1)  # type: ignore[no-any-return]

    async with ac.run("r", store=url) as run:
        task = asyncio.create_task(run.step("s", slow))
        await inside.wait()
    go_on.set()
    assert await task == 1
    assert ac.get("r", store=url).state == "completed"
    assert not leased(url, "r")
    async with ac.run("r", store=url, wait=0) as run:
        assert await run.step("s", slow) == 1
    assert tool.ran == [1]


# -- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda x: x, Tool().use, lambda x: asyncio.ensure_future(Tool().use(x))])
async def test_what_returns_an_awaitable_is_awaited(make: Callable[[int], int | Awaitable[int]]) -> None:
    async with ac.run("r", store=fresh()) as run:
        assert await run.step("s", make, 5) == 5


def test_an_async_function_in_a_blocking_run_is_refused() -> None:
    tool = Tool()
    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.RunMisuse, match="async with"):
            run.step("s", tool.use, 1)
        with warnings.catch_warnings(), pytest.raises(ac.RunMisuse, match="async with"):
            warnings.simplefilter("ignore", RuntimeWarning)
            run.step("s", lambda: tool.use(1))
    assert tool.ran == []


async def test_stop_iteration_out_of_a_coroutine_is_what_python_makes_of_it() -> None:
    error = StopIteration("end")

    def fail() -> None:
        raise error

    async with ac.run("r", store=fresh()) as run:
        with pytest.raises(RuntimeError) as caught:
            await run.step("s", fail)
    assert caught.value.__cause__ is error


async def test_nested_steps_of_parallel_tasks_are_children_of_their_own() -> None:
    url, tool = fresh(), Tool()

    async def outer(n: int) -> Any:
        await asyncio.sleep(0)
        return await run.step("inner", tool.use, n)

    async with ac.run("r", store=url) as run:
        assert await asyncio.gather(*(run.step("outer", outer, n) for n in range(3))) == [0, 1, 2]
    assert set(slots(url)) == {f"outer{n}{inner}" for n in ("", "#2", "#3") for inner in ("", "/inner")}

"""Async steps and runs that are cancelled: nothing is lost, nothing is paid twice, nobody waits in vain."""

from __future__ import annotations

import asyncio

import pytest
from async_tools import Tool, slots
from memory_runs import fresh, logged

import agentcheckpoint as ac
from agentcheckpoint import attempt
from agentcheckpoint.core.models import Closed, Failed


async def test_one_of_parallel_steps_can_be_cancelled() -> None:
    url, ran = fresh(), list[int]()

    async def use(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(60 if n == 1 and ran.count(1) == 1 else 0)
        return n

    async with ac.run("r", store=url) as run:
        tasks = [asyncio.create_task(run.step("s", use, n)) for n in range(3)]
        while len(ran) < 3:
            await asyncio.sleep(0)
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [results[0], results[2]] == [0, 2]
        assert isinstance(results[1], asyncio.CancelledError)
        assert await run.step("s", use, 1) == 1
    assert sorted(slots(url)) == ["s", "s#2", "s#3"]
    assert logged(url, "r", Failed) == []


async def test_a_time_out_around_a_step_is_no_failure_and_the_same_call_takes_the_same_slot() -> None:
    url, tool = fresh(), Tool()
    async with ac.run("r", store=url) as run:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await run.step("s", tool.use, 1, 60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.step("s", tool.use, 1, 60), 0.01)
        assert await run.step("s", tool.use, 2) == 2
    assert slots(url) == ["s#2"]
    assert logged(url, "r", Failed) == []


async def test_a_time_out_while_the_result_is_being_stored_buys_it_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    url, tool, cancel = fresh(), Tool(), [True]

    def in_mid_commit(*_args: object) -> None:
        if cancel.pop():
            task.cancel()

    async with ac.run("r", store=url) as run:
        task = asyncio.create_task(run.step("s", tool.use, 1))
        with monkeypatch.context() as patched:
            patched.setattr(attempt, "after_commit", [in_mid_commit])
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await run.step("s", tool.use, 1) == 1
        assert await run.step("s", tool.use, 1) == 1
    assert tool.ran == [1, 1]
    assert slots(url) == ["s", "s#2"]


async def test_a_replay_that_is_cancelled_is_given_to_the_same_call() -> None:
    url, tool = fresh(), Tool()
    async with ac.run("r", store=url) as run:
        await run.step("s", tool.use, 1)
    async with ac.run("r", store=url) as run:
        task = asyncio.create_task(run.step("s", tool.use, 1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await run.step("s", tool.use, 1) == 1
    assert tool.ran == [1]


async def test_one_that_waits_for_the_same_key_can_be_cancelled_at_once() -> None:
    tool, inside, go_on = Tool(), asyncio.Event(), asyncio.Event()

    async def slow(x: int) -> int:
        inside.set()
        await go_on.wait()
        return await tool.use(x)  # type: ignore[no-any-return]

    async with ac.run("r", store=fresh()) as run:
        first = asyncio.create_task(run.step(ac.Step("s", key="k"), slow, 1))
        await inside.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.step(ac.Step("s", key="k"), slow, 1), 0.01)
        assert not first.done()
        go_on.set()
        assert await first == 1


async def test_waiting_for_a_busy_run_can_be_cancelled_at_once() -> None:
    url = fresh()
    async with ac.run("r", store=url):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), ac.run("r", store=url, wait=3600):
                raise AssertionError("it was opened twice")
    assert len(logged(url, "r", Closed)) == 1


async def test_a_task_group_ends_as_it_does_without_a_run() -> None:
    url, tool = fresh(), Tool()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    with pytest.raises(ExceptionGroup) as caught:
        async with ac.run("r", store=url) as run, asyncio.TaskGroup() as group:
            group.create_task(run.step("slow", tool.use, 1, 60))
            group.create_task(run.step("bad", fail))
    assert [str(error) for error in caught.value.exceptions] == ["mine"]
    assert ac.get("r", store=url).state == "retryable"
    assert [entry.slot for entry in logged(url, "r", Failed)] == ["bad"]


async def test_a_task_group_whose_task_waits_leaves_the_run_waiting() -> None:
    url = fresh()

    async def suspend() -> None:
        raise ac.Suspended

    with pytest.raises(BaseExceptionGroup):
        async with ac.run("r", store=url) as run, asyncio.TaskGroup() as group:
            group.create_task(run.step("wait", suspend))
    assert ac.get("r", store=url).state == "waiting"

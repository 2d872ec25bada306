"""Steps from threads, both colours in one run, and a thread that does not know the run."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from async_tools import Tool, slots
from faults.servers import until
from memory_runs import fresh, leased

import agentcheckpoint as ac
from agentcheckpoint.current import position, warn_if_unrecorded

CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


@ac.step
def note(x: object) -> object:
    CALLS.append(x)
    return x


@ac.step
async def note_later(x: object) -> object:
    await asyncio.sleep(0)
    CALLS.append(x)
    return x


def plain(x: object) -> object:
    CALLS.append(x)
    return x


def test_steps_from_many_threads_are_recorded_and_replayed() -> None:
    url = fresh()
    for _ in range(2):
        with ac.run("r", store=url) as run, ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda n: run.step("s", plain, n), range(60))) == list(range(60))
    assert sorted(CALLS) == list(range(60))
    assert len(set(slots(url))) == 60


def test_a_step_called_directly_from_a_thread_stands_at_the_top_of_the_run() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:

        def outer() -> None:
            thread = threading.Thread(target=run.step, args=("direct", plain, 1))
            bound = threading.Thread(target=run.bind(run.step), args=("bound", plain, 2))
            for each in (thread, bound):
                each.start()
                each.join()

        run.step("outer", outer)
    assert slots(url) == ["direct", "outer/bound", "outer"]


def test_bind_gives_a_thread_the_run() -> None:
    url = fresh()
    with ac.run("r", store=url) as run, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run.bind(note), range(3))) == [0, 1, 2]
    assert sorted(slots(url)) == ["note", "note#2", "note#3"]


def test_bind_gives_the_run_to_an_async_function_on_another_loop() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        bound = run.bind(note_later)
        thread = threading.Thread(target=lambda: asyncio.run(bound(5)))  # type: ignore[arg-type]
        thread.start()
        thread.join()
    assert (slots(url), CALLS) == (["note_later"], [5])


def test_a_thread_without_the_run_is_warned() -> None:
    caught: list[str] = []

    def call() -> None:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            note(1)
            warn_if_unrecorded("A call of /chat/completions")
        caught.extend(str(warning.message) for warning in seen if warning.category is ac.NoActiveRunWarning)

    with ac.run("r", store=fresh()):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert len(caught) == 2
    assert all("run.bind(function)" in text for text in caught)
    assert "'r' is open in this process" in caught[1]


def test_where_no_run_is_open_nothing_is_said_of_one() -> None:
    with ac.run("r", store=fresh()):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unrecorded("A call")


def test_one_key_from_many_threads_is_one_step() -> None:
    url, ready = fresh(), threading.Barrier(8)
    with ac.run("r", store=url) as run:

        def call(_n: int) -> object:
            ready.wait()
            return run.step(ac.Step("s", key="k"), slow, 1)

        def slow(x: int) -> int:
            time.sleep(0.02)
            CALLS.append(x)
            return x

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(call, range(8))) == [1] * 8
    assert (slots(url), CALLS) == (["s[k]"], [1])


# -- both colours -----------------------------------------------------------------------------------------------------


async def test_blocking_steps_in_an_async_run_are_recorded_on_the_loop_and_in_threads() -> None:
    url, tool = fresh(), Tool()
    for _ in range(2):
        async with ac.run("r", store=url) as run:
            assert note(1) == 1
            assert await asyncio.to_thread(note, 2) == 2
            assert await asyncio.gather(run.step("s", tool.use, 3), asyncio.to_thread(note, 4)) == [3, 4]
            assert await note_later(5) == 5
    assert CALLS == [1, 2, 4, 5]
    assert tool.ran == [3]
    assert sorted(slots(url)) == ["note", "note#2", "note#3", "note_later", "s"]


def test_async_steps_in_a_blocking_run_are_recorded_on_a_loop_of_their_own() -> None:
    url = fresh()

    async def work() -> list[object]:
        return list(await asyncio.gather(*(note_later(n) for n in range(5))))

    for _ in range(2):
        with ac.run("r", store=url):
            assert asyncio.run(work()) == list(range(5))
            assert asyncio.run(work()) == list(range(5))
    assert [*range(5), *range(5)] == CALLS
    assert len(slots(url)) == 10


async def test_a_blocking_step_does_not_wait_for_an_async_one_on_its_own_loop() -> None:
    go_on = asyncio.Event()

    async def wait() -> int:
        await go_on.wait()
        return 1

    async with ac.run("r", store=fresh()) as run:
        task = asyncio.create_task(run.step(ac.Step("s", key="k"), wait))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        @ac.step(name="s", key=lambda: "k")
        def blocking() -> int:
            return 2

        with pytest.raises(ac.RunMisuse, match="never"):
            blocking()
        go_on.set()
        assert await task == 1


async def test_a_blocking_replay_beside_an_async_one_gets_its_own_copy() -> None:
    url = fresh()
    async with ac.run("r", store=url) as run:
        await run.step("a", plain, 1)
        note(2)
    async with ac.run("r", store=url) as run:
        task = asyncio.create_task(run.step("a", plain, 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert note(2) == 2
        assert await task == 1
    assert CALLS == [1, 2]


def test_the_runs_of_two_tasks_are_not_mixed_up() -> None:
    url = fresh()

    async def work(name: str) -> None:
        async with ac.run(name, store=url):
            for n in range(3):
                await note_later(f"{name}{n}")
                here = position()
                assert here is not None and here.attempt.run_id == name

    async def main() -> None:
        await asyncio.gather(*(work(f"r{n}") for n in range(5)))
        assert position() is None

    asyncio.run(main())
    assert [len(ac.get(f"r{n}", store=url).steps) for n in range(5)] == [3] * 5


# -- leases -----------------------------------------------------------------------------------------------------------


async def test_a_blocked_event_loop_does_not_lose_its_lease() -> None:
    url = fresh()
    async with ac.run("r", store=url, lease=0.15) as run:
        await run.step("s", plain, 1)
        time.sleep(0.5)
        until(lambda: leased(url, "r"), "the lease is renewed after it would have run out")
        await run.step("s", plain, 2)
    assert not leased(url, "r")


def test_many_runs_are_each_renewed() -> None:
    url = fresh()
    openers = [ac.run(f"r{n}", store=url, lease=0.15) for n in range(10)]
    for opener in openers:
        opener.__enter__()
    time.sleep(0.4)
    for n in range(10):
        until(lambda n=n: leased(url, f"r{n}"), "it is renewed after it would have run out")  # type: ignore[misc]
    for opener in openers:
        opener.__exit__(None, None, None)
    assert not any(leased(url, f"r{n}") for n in range(10))

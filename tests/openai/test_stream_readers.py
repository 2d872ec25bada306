"""Who reads a stream: several tasks, other threads than the one that opened it, and nobody any more."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asking import async_client, chat, chat_async, is_last_word, recorded, sync_client
from gates import Stalled, chunk
from openai import AsyncOpenAI

import agentcheckpoint as ac
from agentcheckpoint.testing.provider import Provider

USAGE: Any = {"include_usage": True}


async def test_a_stream_left_by_a_task_that_has_ended_is_a_step(url: str, provider: Provider) -> None:
    streams_held = []

    async def read(client: AsyncOpenAI, n: int) -> None:
        stream = await chat_async(client, f"number {n}", stream=True, stream_options=USAGE)
        streams_held.append(stream)
        async for event in stream:
            if is_last_word(event):
                return

    for _ in range(2):
        async with async_client(provider) as client, ac.run("r", store=url) as run:
            await asyncio.gather(*(read(client, n) for n in range(3)))
            await run.step("next", int, 1)
    assert run.cost.replayed == 4 and run.cost.paid == provider.spent
    assert len(provider.requests) == 3


async def test_a_step_of_another_task_does_not_wait_for_a_stream_that_is_read(url: str) -> None:
    last_word, go_on = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async for event in await chat_async(client, stream=True):
            if is_last_word(event):
                last_word.set()
                await go_on.wait()

    with Stalled(chunk("x") + chunk(None, "stop"), b"data: [DONE]\n\n") as server:
        client = ac.wrap(AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0))
        async with ac.run("r", store=url) as run:
            task = asyncio.create_task(read())
            await last_word.wait()
            await run.step("next", int, 1)
            assert recorded(url) == ["next"]
            server.go_on.set()
            go_on.set()
            await task
        await client.close()
    assert recorded(url) == ["chat", "next"]


async def test_two_streams_read_by_turns_are_two_steps(url: str, provider: Provider) -> None:
    async def read(client: AsyncOpenAI, run: Any, n: int) -> list[Any]:
        events = []
        async for event in await chat_async(client, f"a few words {n}", stream=True, stream_options=USAGE):
            events.append(event)
            await run.step(ac.Step("seen", key=f"{n}.{len(events)}"), int, len(events))
        return events

    read_both = []
    for _ in range(2):
        async with async_client(provider) as client, ac.run("r", store=url) as run:
            read_both.append(await asyncio.gather(read(client, run, 1), read(client, run, 2)))
    assert read_both[0] == read_both[1]
    assert all(events[-1].usage is not None for events in read_both[0])
    assert len(provider.journal) == 2 and run.cost.paid == provider.spent


@pytest.mark.parametrize("leave", [False, True], ids=["to its end", "left after its last word"])
def test_a_stream_read_in_another_thread_than_it_was_opened_in(url: str, provider: Provider, leave: bool) -> None:
    def read() -> None:
        for event in stream:
            if leave and is_last_word(event):
                return

    for _ in range(2):
        with sync_client(provider) as client, ac.run("r", store=url) as run:
            stream = chat(client, stream=True, stream_options=USAGE)
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
            run.step("next", int, 1)
    assert len(provider.requests) == 1 and run.cost.paid == provider.spent


async def test_a_stream_read_in_a_pools_thread_and_left_there_is_a_step(url: str, provider: Provider) -> None:
    def read() -> Any:
        stream = chat(client, stream=True, stream_options=USAGE)
        for event in stream:
            if is_last_word(event):
                return stream

    for _ in range(2):
        with sync_client(provider) as client:
            async with ac.run("r", store=url) as run:
                held = await asyncio.to_thread(read)
            assert held is not None
    assert len(provider.requests) == 1 and run.cost.paid == provider.spent


def test_a_stream_that_outlives_its_run_is_recorded_all_the_same(url: str, provider: Provider) -> None:
    with sync_client(provider) as client:
        with ac.run("r", store=url):
            events = iter(chat(client, stream=True))
            next(events)
        assert list(events)
        assert ac.get("r", store=url).state == "completed"
        with ac.run("r", store=url):
            list(chat(client, stream=True))
    assert len(provider.requests) == 1


async def test_a_stream_that_is_still_read_when_its_run_is_left_is_left_to_its_reader(url: str) -> None:
    """It has its last word, and waits for its end in another task: nobody else may read there."""
    last_word = asyncio.Event()

    async def read() -> list[Any]:
        events = []
        async for event in await chat_async(client, stream=True):
            events.append(event)
            if is_last_word(event):
                last_word.set()
        return events

    with Stalled(chunk("x") + chunk(None, "stop"), b"data: [DONE]\n\n") as server:
        client = ac.wrap(AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0))
        async with ac.run("r", store=url):
            task = asyncio.create_task(read())
            await last_word.wait()
            await asyncio.sleep(0)
        server.go_on.set()
        assert len(await task) == 2
        await client.close()
    assert recorded(url) == ["chat"]

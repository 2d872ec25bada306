"""Streams of an async client, of several tasks and of other threads than the one that opened them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from asking import MODEL, async_client, bills, chat_async, is_last_word, recorded
from gates import Gate, Stalled, chunk
from openai import AsyncOpenAI

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.openai import streams
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

USAGE: Any = {"include_usage": True}


async def ask(client: AsyncOpenAI, kind: str, **options: Any) -> AsyncIterator[Any]:
    if kind == "chat":
        return aiter(await chat_async(client, stream=True, **options))
    return aiter(await client.responses.create(model=MODEL, input="hi", stream=True, **options))


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_events_are_handed_on_before_the_next_ones_are_read(url: str, provider: Provider, kind: str) -> None:
    gate = Gate()
    own = httpx2.AsyncClient(transport=gate)
    async with async_client(provider, http_client=own) as client, ac.run("r", store=url):
        events = await ask(client, kind)
        await anext(events)
        gate.open.set()
        assert len([event async for event in events]) >= 2


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_the_end_is_handed_on_only_after_the_commit(url: str, provider: Provider, kind: str) -> None:
    seen: list[str] = []
    after_commit.append(note := lambda _, change: seen.append(change.entry.k))
    try:
        async with async_client(provider) as client, ac.run("r", store=url):
            async for event in await ask(client, kind):
                assert ("done" in seen) == (getattr(event, "type", "") == "response.completed")
            assert "done" in seen
    finally:
        after_commit.remove(note)


@pytest.mark.parametrize("held", [True, False], ids=["held", "forgotten"])
@pytest.mark.parametrize("then", ["close", "with", "next step", "next call", "later", "run's end"])
@pytest.mark.parametrize("usage", [True, False], ids=["usage", "no usage"])
async def test_a_chat_stream_left_after_its_last_word_is_a_step(
    url: str, provider: Provider, then: str, held: bool, usage: bool
) -> None:
    """Forgotten, it is closed by a task that the loop makes, whenever that comes to run."""
    for _ in range(2):
        async with async_client(provider) as client, ac.run("r", store=url) as run:
            stream = await chat_async(client, stream=True, **({"stream_options": USAGE} if usage else {}))
            async for event in stream:
                if is_last_word(event):
                    break
            if then == "close":
                await stream.close()
            elif then == "with":
                async with stream:
                    pass
            if not held:
                del stream
                gc.collect()
            if then == "next step":
                await run.step("next", int, 1)
            elif then == "next call":
                await client.embeddings.create(model=MODEL, input="x")
            elif then == "later":
                await asyncio.sleep(0.05)
    assert "chat" in recorded(url)
    assert len(provider.requests) == 1 + (then == "next call")
    assert (run.cost.paid, run.cost.unpriced) == (provider.spent, 0)


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_a_stream_cancelled_while_it_is_read_is_unresolved(url: str, provider: Provider, kind: str) -> None:
    stalled = Stalled(chunk("x") if kind == "chat" else b'data: {"type": "response.created"}\n\n', b"")
    first = asyncio.Event()

    async def read() -> None:
        async with AsyncOpenAI(base_url=stalled.url, api_key="k", max_retries=0) as bare:
            async for _ in await ask(ac.wrap(bare), kind):
                first.set()

    with stalled:
        async with ac.run("r", store=url) as run:
            task = asyncio.create_task(read())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert run.cost.unresolved == 1
    assert recorded(url) == [] and bills(url) == ["unresolved"]
    async with async_client(provider) as client, ac.run("r", store=url):
        assert [event async for event in await ask(client, kind)]
    assert recorded(url) == [kind], "it takes the slot that the cancelled one left"


async def test_a_cancellation_in_the_wait_for_a_stalled_server_is_not_swallowed(url: str) -> None:
    with Stalled(chunk("x") + chunk(None, "stop"), b"") as server:
        client = ac.wrap(AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0))
        waiting = asyncio.Event()

        async def leave() -> None:
            stream = await chat_async(client, stream=True)
            async for event in stream:
                if is_last_word(event):
                    break
            waiting.set()
            await stream.close()
            raise AssertionError("the cancellation was swallowed")

        async with ac.run("r", store=url):
            task = asyncio.create_task(leave())
            await waiting.wait()
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert recorded(url) == ["chat"], "and the answer, which he had, is kept"


async def test_a_server_that_stalls_after_the_last_word_is_waited_for_only_so_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DRAIN", 0.1)
    with Stalled(chunk("x") + chunk(None, "stop"), b"data: [DONE]\n\n") as server:
        async with ac.run("r", store=url) as run:
            client = ac.wrap(AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0))
            events = await ask(client, "chat")
            assert [is_last_word(await anext(events)) for _ in range(2)] == [False, True]
            await run.step("next", int, 1)
            assert "chat" in recorded(url)
            server.go_on.set()
            assert [event async for event in events] == []
            await client.close()


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "broken"])
@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_a_stream_that_is_cut_is_no_step(url: str, kind: str, clean: bool) -> None:
    with Provider(scripted(Answer(text="one two three four", cut_after=4, cut_clean=clean))) as provider:
        async with async_client(provider) as client, ac.run("r", store=url) as run:
            if clean:
                with pytest.warns(ac.UnrecordedCallWarning, match="terminal"):
                    assert len([event async for event in await ask(client, kind)]) == 4
            else:
                with pytest.raises(openai.APIConnectionError):
                    [event async for event in await ask(client, kind)]
            assert run.cost.unresolved == 1
    assert recorded(url) == []


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_the_same_key_can_be_called_again_after_its_stream_was_left(
    url: str, provider: Provider, kind: str
) -> None:
    async with async_client(provider) as client, ac.run("r", store=url) as run:
        with ac.name("ask", key="k"):
            left = await ask(client, kind)
        await anext(left)
        with ac.name("ask", key="k"):
            assert [event async for event in await ask(client, kind)]
        assert run.cost.unresolved == (kind == "chat"), "a response that was left is fetched by its id"
    assert recorded(url) == ["ask[k]"]

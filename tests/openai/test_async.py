"""The async client: the same steps, on a loop, side by side, cancelled, and mixed with the blocking one."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asking import MODEL, async_client, bills, chat, chat_async, recorded, sync_client, user
from faults.servers import until
from openai import AsyncOpenAI
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.provider import Provider


class Word(BaseModel):
    word: str


def brain(request: Request) -> Answer:
    wants_json = "response_format" in request.body or "text" in request.body
    return Answer(text='{"word": "yes"}' if wants_json else f"a few words {secrets.token_hex(4)}")


async def _events(stream: Any) -> list[Any]:
    return [event async for event in stream]


async def _raw(client: AsyncOpenAI) -> Any:
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=user("raw"))
    return raw.parse(), raw.request_id


async def _streaming_response(client: AsyncOpenAI) -> Any:
    async with client.responses.with_streaming_response.create(model=MODEL, input="x") as reply:
        return await reply.parse(), reply.request_id


async def _lines(client: AsyncOpenAI) -> Any:
    create = client.chat.completions.with_streaming_response.create
    async with create(model=MODEL, messages=user("lines"), stream=True) as reply:
        return [line async for line in reply.iter_lines()]


async def _stream(client: AsyncOpenAI) -> Any:
    return await _events(await client.responses.create(model=MODEL, input="q", stream=True))


async def _chat_stream(client: AsyncOpenAI) -> Any:
    return await _events(await chat_async(client, stream=True))


async def _chat_helper(client: AsyncOpenAI) -> Any:
    async with client.chat.completions.stream(model=MODEL, messages=user("s"), response_format=Word) as stream:
        return [event.type async for event in stream], await stream.get_final_completion()


async def _responses_helper(client: AsyncOpenAI) -> Any:
    async with client.responses.stream(model=MODEL, input="s", text_format=Word) as stream:
        return [event async for event in stream], await stream.get_final_response()


KINDS: dict[str, Callable[[AsyncOpenAI], Awaitable[Any]]] = {
    "chat.create": chat_async,
    "chat.create(stream)": _chat_stream,
    "chat.parse": lambda c: c.chat.completions.parse(model=MODEL, messages=user("p"), response_format=Word),
    "chat.stream": _chat_helper,
    "responses.create": lambda c: c.responses.create(model=MODEL, input="q"),
    "responses.create(stream)": _stream,
    "responses.parse": lambda c: c.responses.parse(model=MODEL, input="q", text_format=Word),
    "responses.stream": _responses_helper,
    "embeddings.create": lambda c: c.embeddings.create(model=MODEL, input=["one", "two"]),
    "with_raw_response": _raw,
    "with_streaming_response": _streaming_response,
    "with_streaming_response(stream)": _lines,
    "with_options": lambda c: chat_async(c.with_options(timeout=9)),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_replayed_call_gives_the_same_objects_for_nothing(url: str, kind: str) -> None:
    answers = []
    with Provider(brain) as provider:
        for _ in range(2):
            async with async_client(provider) as client, ac.run("r", store=url) as run:
                answers.append(await KINDS[kind](client))
        assert len(provider.requests) == len(provider.journal) == 1
    assert answers[0] == answers[1] and run.cost.replayed == 1
    assert getattr(answers[0], "_request_id", None) == getattr(answers[1], "_request_id", None)


async def test_parallel_calls_find_their_own_answers_though_they_come_in_another_order(
    url: str, provider: Provider
) -> None:
    async def asked(order: list[int]) -> dict[int, tuple[str, str]]:
        async def ask(n: int) -> tuple[str, str]:
            text = (await chat_async(client, f"number {n}")).choices[0].message.content
            events = await _events(await client.responses.create(model=MODEL, input=f"{n}", stream=True))
            return str(text), events[-1].response.output_text

        async with async_client(provider) as client, ac.run("r", store=url):
            return dict(zip(order, await asyncio.gather(*map(ask, order)), strict=True))

    first = await asked(list(range(12)))
    assert first[7] == ("number 7", "7")
    assert await asked([*range(5, 12), *reversed(range(5))]) == first
    assert len(provider.journal) == len(provider.requests) == 24


async def test_a_call_cancelled_on_its_way_is_unresolved_and_made_again_in_its_slot(url: str) -> None:
    asked = threading.Event()
    slow = Answer(text="late", delay=30)

    def brain(request: Request) -> Answer:
        asked.set()
        return slow if request.n == 1 else Answer(text="soon")

    with Provider(brain) as provider:
        async with async_client(provider) as client, ac.run("r", store=url) as run:
            call = asyncio.create_task(chat_async(client))
            await asyncio.to_thread(asked.wait)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await chat_async(client)).choices[0].message.content == "soon"
            assert run.cost.unresolved == 1
        assert bills(url) == ["unresolved", "paid"] and recorded(url) == ["chat"]
        until(lambda: len(provider.journal) == 2, "the cancelled one was paid indeed")


async def test_a_call_cancelled_during_its_commit_is_recorded_and_its_answer_waits(
    url: str, provider: Provider
) -> None:
    """What was applied is not paid for again: the same call gets it."""

    def cancel(_: object, change: Any) -> None:
        if change.entry.k == "done" and not call.done():
            call.cancel()

    async with async_client(provider) as client, ac.run("r", store=url):
        after_commit.append(cancel)
        try:
            call = asyncio.create_task(chat_async(client))
            with pytest.raises(asyncio.CancelledError):
                await call
        finally:
            after_commit.remove(cancel)
        assert (await chat_async(client)).choices[0].message.content == "hi"
    assert len(provider.requests) == 1 and recorded(url) == ["chat"] and bills(url) == ["paid"]


async def test_side_by_side_one_failure_leaves_the_others_recorded(url: str) -> None:
    def brain(request: Request) -> Answer:
        bad = "2" in request.messages[-1]["content"]
        return Answer(status=400, error="no") if bad else Answer(text="fine")

    with Provider(brain) as provider:
        async with async_client(provider) as client, ac.run("r", store=url):
            results = await asyncio.gather(*(chat_async(client, str(n)) for n in range(4)), return_exceptions=True)
        assert [isinstance(result, Exception) for result in results] == [False, False, True, False]
        async with async_client(provider) as client, ac.run("r", store=url):
            await asyncio.gather(*(chat_async(client, str(n)) for n in range(4)), return_exceptions=True)
        assert len(provider.journal) == 3 and len(provider.requests) == 5


# -- both colours -----------------------------------------------------------------------------------------------------


async def test_a_blocking_client_in_an_async_run_beside_async_calls(url: str, provider: Provider) -> None:
    async def blocking(n: int) -> str:
        return str(chat(client, f"blocking {n}").id)

    ids = []
    for _ in range(2):
        with sync_client(provider) as client:
            async with async_client(provider) as other, ac.run("r", store=url):
                first = [chat_async(other, f"async {n}") for n in range(4)]
                answers = await asyncio.gather(*first, *(blocking(n) for n in range(3)))
                threaded = await asyncio.gather(*(asyncio.to_thread(blocking_stream, client, n) for n in range(3)))
                ids.append([answer if isinstance(answer, str) else answer.id for answer in answers] + threaded)
    assert ids[0] == ids[1]
    assert len(provider.journal) == len(provider.requests) == 10


def blocking_stream(client: Any, n: int) -> str:
    return str(list(chat(client, f"streamed {n}", stream=True))[-1].id)


async def test_a_blocking_call_that_would_wait_for_its_own_loop_is_refused_before_it_pays(url: str) -> None:
    asked, answer = threading.Event(), threading.Event()

    def brain(_: Request) -> Answer:
        asked.set()
        answer.wait(60)
        return Answer(text="late")

    async def keyed(client: AsyncOpenAI) -> Any:
        with ac.name("page", key="k"):
            return await chat_async(client)

    with Provider(brain) as provider, sync_client(provider) as blocking:
        async with async_client(provider) as client, ac.run("r", store=url):
            call = asyncio.create_task(keyed(client))
            await asyncio.to_thread(asked.wait)
            with pytest.raises(ac.RunMisuse, match="to_thread"), ac.name("page", key="k"):
                chat(blocking)
            answer.set()
            await call
        assert len(provider.requests) == 1


def test_an_async_client_in_a_blocking_run(url: str, provider: Provider) -> None:
    async def ask() -> list[str]:
        async with async_client(provider) as client:
            answers = await asyncio.gather(*(chat_async(client, f"{n}") for n in range(4)))
            return [answer.id for answer in answers] + [
                e.id for e in await _events(await chat_async(client, stream=True))
            ]

    ids = []
    for _ in range(2):
        with ac.run("r", store=url) as run:
            ids.append(asyncio.run(ask()))
            chat(sync_client(provider), "after it")
    assert ids[0] == ids[1] and run.cost.replayed == 6
    assert len(provider.journal) == 6


def test_an_async_client_in_a_thread_of_its_own_with_the_run_bound(url: str, provider: Provider) -> None:
    async def ask() -> None:
        async with async_client(provider) as client:
            await _events(await client.responses.create(model=MODEL, input="x", stream=True))

    for _ in range(2):
        with ac.run("r", store=url) as run:
            thread = threading.Thread(target=run.bind(lambda: asyncio.run(ask())))
            thread.start()
            thread.join()
    assert run.cost.replayed == 1 and len(provider.journal) == 1

"""Chat streams are measured: usage is asked for where the caller did not, and the chunk that brings it is not shown."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import openai
import pytest
from asking import KEY, MODEL, async_client, bills, chat, chat_async, is_last_word, sync_client, user
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.core.ledger import fold_entries
from agentcheckpoint.openai import added
from agentcheckpoint.testing.brain import Answer, ToolCall, scripted
from agentcheckpoint.testing.provider import Provider

SAID = Answer(text="one two", tool_calls=(ToolCall("f", {"x": 1}),), reasoning_tokens=3)
ASKS: list[Any] = [None, {"include_usage": False}, {"include_obfuscation": False}, {}]
"""Options of a caller who does not ask for usage."""


def body(provider: Provider, n: int = 0) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(provider.requests[n].body)
    return decoded


def unwrapped(provider: Provider, options: Any = None) -> list[Any]:
    """The chunks as a client sees them that is not wrapped."""
    given = {} if options is None else {"stream_options": options}
    with OpenAI(base_url=provider.url, api_key=KEY) as bare:
        return list(bare.chat.completions.create(model=MODEL, messages=user("hi"), stream=True, **given))


def shape(chunks: list[Any]) -> list[Any]:
    """What there is in chunks beside the ids and times that each answer has for itself."""
    dumps = [chunk.model_dump(exclude={"id", "created"}) for chunk in chunks]
    for dump in dumps:
        for choice in dump["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                call.pop("id")
    return dumps


@pytest.mark.parametrize("options", ASKS, ids=str)
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_usage_is_asked_for_and_its_chunk_is_for_the_ledger_alone(url: str, colour: str, options: Any) -> None:
    given = {} if options is None else {"stream_options": options}

    async def on_a_loop() -> list[Any]:
        async with async_client(provider) as client, ac.run("r", store=url):
            return [chunk async for chunk in await chat_async(client, stream=True, **given)]

    def ask() -> list[Any]:
        with sync_client(provider) as client, ac.run("r", store=url):
            return list(chat(client, stream=True, **given))

    with Provider(scripted(SAID, SAID)) as provider:
        lives = [asyncio.run(on_a_loop()) if colour == "async" else ask() for _ in range(2)]
        assert lives[0] == lives[1] and is_last_word(lives[0][-1]) and len(provider.requests) == 1
        assert body(provider)["stream_options"] == {**(options or {}), "include_usage": True}
        assert shape(unwrapped(provider, options)) == shape(lives[0])
        (entry,) = ac.get("r", store=url).ledger
        assert entry.usage is not None and entry.usage.reasoning_tokens == 3
        assert entry.cost == provider.journal[0].cost


def test_one_who_asks_for_usage_gets_it_also_if_it_was_recorded_for_another(url: str, provider: Provider) -> None:
    """``stream_options`` is no part of the question."""
    ends = []
    for options in ({}, {"stream_options": {"include_usage": True}}, {}):
        with sync_client(provider) as client, ac.run("r", store=url):
            ends.append(list(chat(client, stream=True, **options))[-1])
    assert ends[0] == ends[2] and is_last_word(ends[0])
    assert ends[1].choices == [] and ends[1].usage is not None
    assert len(provider.requests) == 1


def test_the_helpers_completion_is_as_without_wrap(url: str) -> None:
    def final(client: OpenAI) -> Any:
        with client.chat.completions.stream(model=MODEL, messages=user("hi")) as stream:
            return stream.get_final_completion()

    with Provider(scripted(Answer(text="one two"), Answer(text="one two"))) as provider:
        with OpenAI(base_url=provider.url, api_key=KEY) as bare:
            plain = final(bare)
        lives = []
        for _ in range(2):
            with sync_client(provider) as client, ac.run("r", store=url) as run:
                lives.append(final(client))
        assert lives[0] == lives[1] and len(provider.requests) == 2
        exclude = {"id", "created"}
        assert lives[0].model_dump(exclude=exclude) == plain.model_dump(exclude=exclude)
        assert run.cost.paid == provider.journal[1].cost


def test_several_choices_are_measured_and_shown_whole(url: str) -> None:
    """The usage comes after the last of them."""

    def chunk(index: int | None, text: str | None, finish: str | None = None, usage: Any = None) -> bytes:
        delta = {"content": text} if text else {}
        choices = [] if index is None else [{"index": index, "delta": delta, "finish_reason": finish}]
        said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices}
        return b"data: " + json.dumps({**said, "usage": usage}).encode() + b"\n\n"

    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    filtered = chunk(None, None)  # without usage: such as the one with which Azure begins
    events = [filtered, chunk(0, "a"), chunk(1, "b"), chunk(0, None, "stop"), chunk(1, None, "length")]
    content = b"".join([*events, chunk(None, None, None, usage), b"data: [DONE]\n\n"])
    own = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"})
    )
    for _ in range(2):
        bare = OpenAI(base_url="http://x", api_key=KEY, http_client=httpx2.Client(transport=own))
        with ac.wrap(bare) as client, ac.run("r", store=url):
            got = list(chat(client, stream=True, n=2))
        assert [[choice.index for choice in chunk.choices] for chunk in got] == [[], [0], [1], [0], [1]]
    (entry,) = ac.get("r", store=url).ledger
    assert entry.usage is not None and (entry.usage.input_tokens, entry.usage.output_tokens) == (5, 7)


# -- servers that refuse ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_server_that_refuses_the_option_is_asked_without_it_once_and_for_all(url: str, colour: str) -> None:
    async def on_a_loop(run_id: str) -> int:
        async with async_client(provider) as client, ac.run(run_id, store=url):
            return len([chunk async for chunk in await chat_async(client, stream=True)])

    def ask(run_id: str) -> int:
        with sync_client(provider) as client, ac.run(run_id, store=url):
            return len(list(chat(client, stream=True)))

    with Provider(refuses=["stream_options"]) as provider:
        for run_id in ("r", "r", "s"):
            assert asyncio.run(on_a_loop(run_id)) if colour == "async" else ask(run_id)
        assert ["stream_options" in body(provider, n) for n in range(3)] == [True, False, False]
        assert len(provider.requests) == 3 and len(provider.journal) == 2, "no more is paid than without"
        refused, paid = ac.get("r", store=url).ledger
        assert (refused.bill, refused.cost) == ("not_billed", None)
        assert (paid.bill, paid.usage, paid.cost, paid.price) == ("paid", None, None, "unmeasured")
        assert bills(url, "s") == ["paid"]
        assert ac.get("r", store=url).cost.unpriced == 1
        assert set(fold_entries(ac.get("r", store=url).ledger)) >= {p.client_request_id for p in provider.journal[:1]}


def test_what_one_server_refuses_is_still_asked_of_another(url: str) -> None:
    with Provider(refuses=["stream_options"]) as strict, Provider() as kind:
        for run_id, provider in (("r", strict), ("s", kind)):
            with sync_client(provider) as client, ac.run(run_id, store=url):
                list(chat(client, stream=True))
        assert ac.get("s", store=url).ledger[0].cost == kind.spent


def test_a_caller_whose_own_options_are_refused_hears_of_it(url: str) -> None:
    with Provider(refuses=["stream_options"]) as provider, sync_client(provider) as client:
        with pytest.raises(openai.BadRequestError, match="stream_options"), ac.run("r", store=url):
            list(chat(client, stream=True, stream_options={"include_usage": True}))
        assert len(provider.requests) == 1 and provider.journal == []


def test_a_refusal_of_something_else_is_not_taken_for_one_of_the_option(url: str) -> None:
    with Provider(scripted(Answer(status=400, error="no such model"))) as provider, sync_client(provider) as client:
        with pytest.raises(openai.BadRequestError, match="no such model"), ac.run("r", store=url):
            list(chat(client, stream=True))
        assert len(provider.requests) == 1
        assert not [place for place in added._refused if place[0].startswith(provider.url)]


def test_outside_a_run_nothing_is_added(provider: Provider) -> None:
    with sync_client(provider) as client:
        assert is_last_word(list(chat(client, stream=True))[-1])
    assert "stream_options" not in body(provider)

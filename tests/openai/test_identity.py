"""Which step a model call is: its name and key, its request, and what is said when the record is another's."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from asking import KEY, MODEL, async_client, bills, chat, chat_async, recorded, sync_client
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.openai import modelcall
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider


def test_calls_are_named_by_endpoint_and_numbered_in_their_order(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url):
        chat(client, "a")
        chat(client, "b")
        client.embeddings.create(model=MODEL, input="c")
        with ac.name("plan"):
            client.responses.create(model=MODEL, input="d")
            client.responses.create(model=MODEL, input="e")
        with ac.name("page", key="https://x.test/#1"):
            chat(client, "f")
    assert recorded(url) == ["chat", "chat#2", "embeddings", "plan", "responses", "page[https://x.test/#1]"]


async def test_a_name_holds_for_the_next_call_of_its_own_task_only(url: str, provider: Provider) -> None:
    async def ask(client: Any, who: str) -> None:
        with ac.name(who):
            await chat_async(client, who)

    async with async_client(provider) as client, ac.run("r", store=url):
        await asyncio.gather(*(ask(client, who) for who in ("ann", "bob", "cem")))
    assert sorted(recorded(url)) == ["ann", "bob", "cem"]


async def test_slots_follow_the_calls_though_the_keys_come_in_another_order(url: str, provider: Provider) -> None:
    """An async key provider reorders ``gather`` before anything is sent."""
    waits = iter((0.06, 0.03, 0.0))

    async def key() -> str:
        await asyncio.sleep(next(waits))
        return KEY

    bare = openai.AsyncOpenAI(base_url=provider.url, api_key=key)
    async with ac.wrap(bare) as client, ac.run("r", store=url):
        await asyncio.gather(*(chat_async(client, text) for text in ("first", "second", "third")))
    sent = [request.body for request in provider.requests]
    assert b"third" in sent[0] and b"first" in sent[2]
    view = ac.get("r", store=url)
    shown = {entry.slot: entry.inputs.arguments[-1].preview for entry in view.entries if entry.k == "done"}
    assert shown == {"chat": "user: first", "chat#2": "user: second", "chat#3": "user: third"}


def test_a_request_that_differs_is_a_mismatch_before_anything_is_sent(url: str, provider: Provider) -> None:
    with sync_client(provider) as client:
        with ac.run("r", store=url):
            chat(client, "one")
            list(chat(client, "two", stream=True))
        with pytest.raises(ac.StepMismatch, match="user: one") as caught, ac.run("r", store=url):
            chat(client, "eins")
        assert caught.value.step == "chat"
        with pytest.raises(ac.StepMismatch, match="stream"), ac.run("r", store=url):
            chat(client, "one", stream=True)
        with ac.run("r", store=url):  # what does not change the question is no mismatch
            chat(client, "one", user="u", metadata={"a": "b"}, service_tier="flex", extra_headers={"X-Trace": "2"})
            list(chat(client, "two", stream=True, stream_options={"include_usage": True}))
    assert len(provider.requests) == 2


def test_a_mismatch_stays_one_however_often_the_call_is_made(url: str, provider: Provider) -> None:
    with sync_client(provider) as client:
        with ac.run("r", store=url):
            chat(client, "one")
        with ac.run("r", store=url):
            for _ in range(3):
                with pytest.raises(ac.StepMismatch):
                    chat(client, "eins")
            assert chat(client, "one").choices[0].message.content == "one", "its record is still there"
    assert len(provider.requests) == 1


@pytest.mark.parametrize("policy", ["rerun", "reuse"])
def test_the_policies_of_a_mismatch(url: str, provider: Provider, policy: Any) -> None:
    with sync_client(provider) as client:
        for text in ("one", "eins"):
            with ac.run("r", store=url), ac.name("ask", on_mismatch=policy):
                answer = chat(client, text).choices[0].message.content
    assert answer == {"rerun": "eins", "reuse": "one"}[policy]
    assert len(provider.requests) == {"rerun": 2, "reuse": 1}[policy]


def test_a_record_of_another_shape_is_not_reused(url: str, provider: Provider) -> None:
    """The SDK would read an answer that is no stream as an empty one, and one endpoint's answer as another's."""
    with sync_client(provider) as client:
        with ac.run("r", store=url), ac.name("ask"):
            chat(client)
        for ask in (lambda: chat(client, stream=True), lambda: client.responses.create(model=MODEL, input="hi")):
            with ac.run("r", store=url), ac.name("ask", on_mismatch="reuse"):
                with pytest.raises(ac.StepMismatch, match="cannot be reused"):
                    ask()
                client.models.list()
    assert len(provider.requests) == 1


def test_a_step_of_a_functions_is_not_taken_for_an_answer(url: str, provider: Provider) -> None:
    with sync_client(provider) as client:
        with ac.run("r", store=url) as run:
            run.step("chat", int, 7)
        with pytest.raises(ac.StepMismatch, match="endpoint"), ac.run("r", store=url):
            chat(client)
        with pytest.raises(ac.CheckpointCorrupt, match="another name"), ac.run("r", store=url, on_mismatch="reuse"):
            chat(client)
    assert not provider.requests


def test_the_same_key_in_two_threads_is_one_payment(url: str, provider: Provider) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(_: int) -> str:
        with ac.name("page", key="k"):
            return str(chat(client).id)

    with sync_client(provider) as client, ac.run("r", store=url) as run, ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(run.bind(ask), range(8)))) == 1
    assert len(provider.journal) == 1


def test_a_call_made_inside_another_is_no_part_of_it(url: str, provider: Provider) -> None:
    """A key provider, or a hook of the HTTP client, may use the client itself."""

    def key() -> str:
        if not listing:
            listing.append(client)
            listing.append([model.id for model in client.models.list()])
        return KEY

    listing: list[Any] = []
    client = ac.wrap(OpenAI(base_url=provider.url, api_key=key))
    with client, ac.run("r", store=url):
        reply = chat(client)
    assert MODEL in listing[1] and reply.choices[0].message.content == "hi"
    assert bills(url) == ["paid"]


@pytest.mark.parametrize(
    "path", ["images/generations", "audio/speech", "completions", "responses/compact", "batches", "threads/t/runs"]
)
def test_other_posts_that_cost_money_are_said_once_on_the_users_line(
    url: str, provider: Provider, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelcall, "_said", set())
    with sync_client(provider, max_retries=0) as client, ac.run("r", store=url):
        with pytest.warns(ac.UnrecordedCallWarning, match=path) as caught, pytest.raises(openai.NotFoundError):
            client.post(f"/{path}", cast_to=object, body={"model": MODEL})
        assert caught[0].filename == __file__
        with pytest.raises(openai.NotFoundError):  # a second warning would be an error here
            client.post(f"/{path}", cast_to=object, body={"model": MODEL})


def test_posts_that_cost_nothing_are_not_spoken_of(url: str, provider: Provider) -> None:
    with sync_client(provider, max_retries=0) as client, ac.run("r", store=url):
        for path in ("batches/b/cancel", "moderations", "files", "responses/input_tokens", "threads", "conversations"):
            with pytest.raises(openai.NotFoundError):
                client.post(f"/{path}", cast_to=object, body={"x": 1})
        client.models.list()


def test_a_step_whose_body_cannot_be_read_is_said_to_be_unrecorded(
    url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelcall, "_said", set())
    content = b'{"model": "demo-large", "messages": [{"role": "user", "content": "x"}]}'
    with sync_client(provider) as client, ac.run("r", store=url) as run:
        with pytest.warns(ac.UnrecordedCallWarning, match="no JSON object"):
            client.post("/chat/completions", cast_to=object, content=content)
        assert run.cost.attempts == 0
    assert len(provider.journal) == 1


def test_an_async_client_warns_on_the_users_line(url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelcall, "_said", set())

    async def ask() -> None:
        async with async_client(provider, max_retries=0) as client, ac.run("r", store=url):
            warns, fails = pytest.warns(ac.UnrecordedCallWarning, match="images"), pytest.raises(openai.NotFoundError)
            with warns as caught, fails:
                await client.images.generate(prompt="x")
            assert caught[0].filename == __file__

    asyncio.run(ask())


def test_a_retry_of_the_users_own_goes_on_in_the_same_slot(url: str) -> None:
    with Provider(scripted(Answer(status=400, error="no"), "good")) as provider:
        with sync_client(provider, max_retries=0) as client, ac.run("r", store=url):
            with pytest.raises(openai.BadRequestError):
                chat(client)
            chat(client)
        assert recorded(url) == ["chat"]


def test_a_mismatch_of_a_model_call_advises_what_a_model_call_takes(url: str, provider: Provider) -> None:
    with sync_client(provider) as client:
        with ac.run("r", store=url):
            chat(client, "one")
        with pytest.raises(ac.StepMismatch, match=r"with ac\.name\('name', key=") as caught, ac.run("r", store=url):
            chat(client, "two")
    assert "Step(" not in str(caught.value) and "ignore" not in str(caught.value)

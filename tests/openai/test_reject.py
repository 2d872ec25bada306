"""A bad answer that was paid for must not brick a run: it can be refused, by whatever its caller has of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from asking import KEY, MODEL, PRICES, async_client, bills, chat, recorded, sync_client, user
from openai import OpenAI
from pydantic import BaseModel, ValidationError

import agentcheckpoint as ac
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider


class Word(BaseModel):
    word: str


GOOD = '{"word": "good"}'


def parse(client: OpenAI) -> Any:
    return client.chat.completions.parse(model=MODEL, messages=user("hi"), response_format=Word)


def ended(client: OpenAI) -> Any:
    *_, last = client.responses.create(model=MODEL, input="hi", stream=True)
    return last


HANDLES: dict[str, tuple[Callable[[OpenAI], Any], Callable[[Any], object]]] = {
    "the object": (chat, lambda answer: answer),
    "its id": (chat, lambda answer: answer.id),
    "its request's id": (chat, lambda answer: answer._request_id),
    "a parsed object": (parse, lambda answer: answer),
    "a response": (lambda c: c.responses.create(model=MODEL, input="x"), lambda answer: answer),
    "a raw response": (
        lambda c: c.chat.completions.with_raw_response.create(model=MODEL, messages=user("x")),
        lambda r: r,
    ),
    "an embedding": (lambda c: c.embeddings.create(model=MODEL, input="x"), lambda answer: answer),
    "a chunk": (lambda c: list(chat(c, stream=True))[2], lambda chunk: chunk),
    "a chunk's id": (lambda c: list(chat(c, stream=True))[-1], lambda chunk: chunk.id),
    "a stream": (lambda c: (stream := chat(c, stream=True), list(stream))[0], lambda stream: stream),
    "an event": (ended, lambda event: event),
    "an event's response": (ended, lambda event: event.response),
    "the slot": (chat, lambda answer: "chat"),
}


@pytest.mark.parametrize("replayed", [False, True], ids=["fresh", "replayed"])
@pytest.mark.parametrize("handle", HANDLES)
def test_an_answer_is_refused_by_what_its_caller_has_of_it(url: str, handle: str, replayed: bool) -> None:
    ask, known_as = HANDLES[handle]
    with Provider(scripted(*[GOOD] * 3)) as provider, sync_client(provider) as client:
        if replayed:
            with ac.run("r", store=url):
                ask(client)
        with ac.run("r", store=url) as run:
            refused = known_as(ask(client))
            ac.reject(refused, "no good")
            with pytest.raises(ac.RunMisuse, match="not an answer"):
                ac.reject(refused, "twice")
            ask(client)
        assert bills(url) == ["wasted", "paid"] and len(recorded(url)) == 1
        assert run.cost.attempts == len(provider.journal) == 2
        (entry,) = (entry for entry in ac.get("r", store=url).entries if entry.k == "rejected")
        assert (entry.why, entry.slot) == ("no good", recorded(url)[0])


def test_a_refusal_outlives_its_worker(url: str) -> None:
    with Provider(scripted("bad", "good")) as provider, sync_client(provider) as client:
        with pytest.raises(ValueError), ac.run("r", store=url):
            ac.reject(chat(client), "bad")
            raise ValueError
        for _ in range(2):
            with ac.run("r", store=url) as run:
                assert chat(client).choices[0].message.content == "good"
        assert len(provider.requests) == 2
        assert run.cost.wasted == provider.journal[0].cost and run.cost.spent == provider.spent


def test_the_others_of_its_name_keep_their_answers(url: str, provider: Provider) -> None:
    with sync_client(provider) as client:
        for attempt in range(2):
            with ac.run("r", store=url):
                ids = [chat(client, text).id for text in ("a", "b", "c")]
                if not attempt:
                    ac.reject(ids[1], "no")
                    ids[1] = chat(client, "b").id
                    first = ids
        assert ids == first
    assert recorded(url) == ["chat", "chat#2", "chat#3"] and len(provider.journal) == 4


def test_answers_of_the_same_id_are_told_apart_by_their_requests(url: str) -> None:
    """Some servers count, or cache: each of their answers has the same id."""

    def same(response: httpx2.Response) -> None:
        body = response.read()
        response._content = body[: body.index(b"chatcmpl-") + 9] + body[body.index(b'","object"') :]

    own = httpx2.Client(event_hooks={"response": [same]})
    with Provider(scripted("bad", "good", "better")) as provider, sync_client(provider, http_client=own) as client:
        with ac.run("r", store=url):
            bad, good = chat(client), chat(client)
            assert bad.id == good.id
            ac.reject(bad, "bad")
            assert chat(client).choices[0].message.content == "better"
        assert bills(url) == ["wasted", "paid", "paid"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_failure_that_will_repeat_names_reject_and_the_answer(url: str, endpoint: str, asynchronous: bool) -> None:
    def call(client: Any) -> Any:
        if endpoint == "chat":
            return parse(client)
        return client.responses.parse(model=MODEL, input="hi", text_format=Word)

    async def ask_async() -> Any:
        async with async_client(provider) as client, ac.run("r", store=url):
            return await call(client)

    def ask() -> Any:
        if asynchronous:
            return asyncio.run(ask_async())
        with sync_client(provider) as client, ac.run("r", store=url):
            return call(client)

    with Provider(scripted("no json", GOOD)) as provider:
        for _ in range(2):
            with pytest.raises(ValidationError) as caught:
                ask()
            notes = [note for note in caught.value.__notes__ if "ac.reject(" in note]
            assert len(notes) == 1 and f"step '{endpoint}'" in notes[0]
        known_as = notes[0].partition("ac.reject('")[2].partition("'")[0]
        with sync_client(provider) as client, ac.run("r", store=url):
            with pytest.raises(ValidationError):
                parse(client) if endpoint == "chat" else call(client)
            ac.reject(known_as, "no json")
        assert ask() is not None
        assert len(provider.requests) == 2 and bills(url) == ["wasted", "paid"]


def test_an_answer_that_was_cut_short_by_its_limit_can_be_refused_by_what_the_error_carries(url: str) -> None:
    with Provider(scripted(Answer(text='{"wo', finish_reason="length"), GOOD)) as provider:
        with sync_client(provider) as client, ac.run("r", store=url):
            with pytest.raises(openai.LengthFinishReasonError) as caught:
                parse(client)
            ac.reject(caught.value.completion, "cut short")
            assert parse(client).choices[0].message.parsed == Word(word="good")


def test_the_providers_own_errors_have_no_such_note(url: str) -> None:
    with Provider(scripted(Answer(status=400, error="no"))) as provider, sync_client(provider) as client:
        with ac.run("r", store=url), pytest.raises(openai.BadRequestError) as caught:
            chat(client)
    assert not getattr(caught.value, "__notes__", [])


def test_an_answer_without_any_id_is_known_by_its_slot(url: str, provider: Provider) -> None:
    """Embeddings have none, and some servers send no x-request-id."""

    def hide(response: httpx2.Response) -> None:
        del response.headers["x-request-id"]

    own = httpx2.Client(event_hooks={"response": [hide]})
    bare = OpenAI(base_url=provider.url, api_key=KEY, http_client=own)
    with ac.wrap(bare, prices=PRICES) as client, ac.run("r", store=url):
        client.embeddings.create(model=MODEL, input="x")
        ac.reject("embeddings", "no")
        client.embeddings.create(model=MODEL, input="x")
    assert bills(url) == ["wasted", "paid"]


def test_what_was_not_handed_out_here_cannot_be_refused(url: str, provider: Provider) -> None:
    with sync_client(provider) as client:
        with ac.run("other", store=url):
            answer = chat(client)
        with pytest.raises(ac.RunMisuse, match="not an answer"):
            ac.reject(answer, "outside")
        with ac.run("r", store=url):
            for wrong in (answer, "chatcmpl-unknown", None, object(), 7):
                with pytest.raises(ac.RunMisuse, match="not an answer"):
                    ac.reject(wrong, "not of this run")


async def test_an_async_run_refuses_too(url: str) -> None:
    with Provider(scripted("bad", "good")) as provider:
        async with async_client(provider) as client:
            async with ac.run("r", store=url):
                ac.reject(await client.responses.create(model=MODEL, input="x"), "bad")
                assert (await client.responses.create(model=MODEL, input="x")).output_text == "good"
        assert bills(url) == ["wasted", "paid"]


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_200_whose_body_says_failed_is_never_a_result(url: str, endpoint: str) -> None:
    def ask(client: OpenAI) -> Any:
        return chat(client) if endpoint == "chat" else client.responses.create(model=MODEL, input="x")

    with Provider(scripted(Answer(text="x", error="it broke"), "fine")) as provider, sync_client(provider) as client:
        with ac.run("r", store=url):
            ask(client)
        assert recorded(url) == [] and ac.get("r", store=url).cost.paid == 0
        with ac.run("r", store=url) as run:
            ask(client)
        assert recorded(url) == [endpoint] and run.cost.paid == provider.journal[1].cost
        assert bills(url) == ["wasted" if endpoint == "responses" else "unresolved", "paid"]

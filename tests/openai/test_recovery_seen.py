"""What the caller of a recovering client sees: the same as without, and ordinary calls where it does not apply."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import httpx2
import openai
import pytest
from asking import KEY, MODEL, PRICES, bills, chat, recorded, sync_client
from openai import OpenAI
from pydantic import BaseModel
from recovering import COLOURS, KINDS, ask, life, life_of, paid_once, recovering, stopped

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.openai.retold import events_of
from agentcheckpoint.store import wire
from agentcheckpoint.testing.brain import Answer, ToolCall, scripted
from agentcheckpoint.testing.provider import Provider

# -- what the caller sees ---------------------------------------------------------------------------------------------


class City(BaseModel):
    name: str


ASKED: dict[str, Callable[[OpenAI], Any]] = {
    "create": lambda c: c.responses.create(model=MODEL, input="x"),
    "parse": lambda c: c.responses.parse(model=MODEL, input="x", text_format=City),
    "raw": lambda c: c.responses.with_raw_response.create(model=MODEL, input="x").parse(),
    "options": lambda c: c.with_options(timeout=20, max_retries=0).responses.create(model=MODEL, input="x"),
    "extra": lambda c: c.responses.create(model=MODEL, input="x", extra_body={"seed": 4}, extra_headers={"X-A": "b"}),
    "explicit": lambda c: c.responses.create(model=MODEL, input="x", stream=False, background=False, store=True),
}


def streaming(client: OpenAI) -> Any:
    with client.responses.with_streaming_response.create(model=MODEL, input="x") as response:
        return response.parse()


ASKED["streaming response"] = streaming


@pytest.mark.parametrize("how", ASKED)
def test_a_plain_call_looks_the_same_with_and_without(url: str, how: str) -> None:
    said = Answer(text='{"name": "Paris"}', tool_calls=(ToolCall("f", {"x": 1}),), reasoning_tokens=3)
    with Provider(scripted(said)) as provider, OpenAI(base_url=provider.url, api_key=KEY) as bare:
        client = ac.wrap(bare, prices=PRICES, recover=True)
        with ac.run("r", store=url):
            first = ASKED[how](client)
        with ac.run("r", store=url):
            again = ASKED[how](client)
        plain = bare.responses.retrieve(first.id)
        assert b'"stream":true' in provider.requests[0].body and len(provider.requests) == 1
    assert first == again and first._request_id == again._request_id == provider.journal[0].request_id
    assert first.model_dump(exclude={"output"}) == plain.model_dump(exclude={"output"})
    assert first.output_text == plain.output_text and len(first.output) == len(plain.output)
    if how != "parse":
        assert first.model_dump() == plain.model_dump() and type(first) is type(plain)


def test_the_raw_response_is_json_and_has_its_headers(url: str, provider: Provider) -> None:
    with recovering(provider) as client, ac.run("r", store=url):
        raw = client.responses.with_raw_response.create(model=MODEL, input="x")
        assert raw.headers["content-type"] == "application/json" and raw.headers["openai-version"]
        assert raw.headers["x-request-id"] == provider.journal[0].request_id and raw.http_response.json()["id"]
        assert raw.elapsed.total_seconds() >= 0 and raw.retries_taken == 0 and "stream" not in raw.http_response.json()


def test_a_transport_that_has_read_all_of_it_already_will_do(url: str) -> None:
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "model": MODEL}
    events = events_of(body)
    own = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=events, headers={"content-type": "text/event-stream"})
    )
    with OpenAI(base_url="http://x", api_key=KEY, http_client=httpx2.Client(transport=own)) as bare:
        assert life_of(ac.wrap(bare, recover=True), url).id == "resp_1"
    assert bills(url) == ["paid"]


def test_a_recording_made_without_is_replayed_with_and_the_other_way_round(url: str, provider: Provider) -> None:
    answers = []
    for recover in (False, True, None, True):
        with ac.wrap(sync_client(provider), recover=recover) as client, ac.run("r", store=url):
            answers.append(ask(client, "plain"))
    assert answers[0] == answers[1] == answers[2] == answers[3] and len(provider.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_fails_looks_the_same_with_and_without(url: str, kind: str) -> None:
    with Provider(scripted(Answer(text="x", error="it broke"))) as provider:
        answer = life(provider, url, kind)
        assert (answer.status, answer.error.message) == ("failed", "it broke")
        assert bills(url) == ["wasted"] and recorded(url) == []


def test_an_error_in_the_stream_is_an_error_of_the_servers(url: str) -> None:
    event = b'event: error\ndata: {"type":"error","code":"server_error","message":"on fire","sequence_number":0}\n\n'
    own = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=event, headers={"content-type": "text/event-stream"})
    )
    bare = OpenAI(base_url="http://x", api_key=KEY, max_retries=0, http_client=httpx2.Client(transport=own))
    with ac.wrap(bare, recover=True) as client, pytest.raises(openai.InternalServerError, match="on fire"):
        life_of(client, url)
    assert bills(url) == ["unresolved"]


# -- where it does not apply ------------------------------------------------------------------------------------------

ORDINARY: dict[str, Callable[[OpenAI], Any]] = {
    "not stored": lambda c: c.responses.create(model=MODEL, input="x", store=False),
    "not stored, streamed": lambda c: list(c.responses.create(model=MODEL, input="x", store=False, stream=True)),
    "chat": chat,
    "chat stream": lambda c: list(chat(c, stream=True)),
    "embeddings": lambda c: c.embeddings.create(model=MODEL, input="x"),
}


@contextmanager
def packets() -> Iterator[list[Any]]:
    seen: list[Any] = []
    exchange = wire.Wire.exchange

    def watched(self: wire.Wire, commands: Any) -> Any:
        seen.append(commands)
        return exchange(self, commands)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire.Wire, "exchange", watched)
        yield seen


@pytest.mark.parametrize("how", ORDINARY)
def test_calls_that_cannot_be_fetched_are_ordinary_and_take_two_packets(url: str, provider: Provider, how: str) -> None:
    with recovering(provider) as client, ac.run("r", store=url), packets() as seen:
        ORDINARY[how](client)
        assert len(seen) == 2
    assert (b'"stream":true' in provider.requests[0].body) == ("stream" in how)


@pytest.mark.parametrize(
    ("recover", "kind", "count"), [(None, "plain", 2), (None, "stream", 3), (True, "plain", 3), (False, "stream", 2)]
)
def test_an_id_takes_one_commit_more(url: str, provider: Provider, recover: Any, kind: str, count: int) -> None:
    with ac.wrap(sync_client(provider), recover=recover) as client, ac.run("r", store=url), packets() as seen:
        ask(client, kind)
        assert len(seen) == count


@pytest.mark.parametrize("colour", COLOURS)
def test_a_server_that_does_not_stream_is_asked_as_written(url: str, colour: str) -> None:
    with Provider(refuses=["stream"]) as provider:
        for text in range(2):
            life(provider, f"{url}{text}", "plain", colour)
        assert [b'"stream":true' in request.body for request in provider.requests] == [True, False, False]
        assert bills(f"{url}0") == ["not_billed", "paid"] and bills(f"{url}1") == ["paid"]


def test_a_refusal_of_something_else_is_the_callers(url: str) -> None:
    with Provider(scripted(Answer(status=400, error="bad words"))) as provider:
        with pytest.raises(openai.BadRequestError, match="bad words"):
            life(provider, url, "plain")
        assert len(provider.requests) == 1


def test_a_server_that_ignores_the_wish_for_a_stream_is_an_ordinary_one(url: str, provider: Provider) -> None:
    def plain(request: httpx2.Request) -> httpx2.Response:
        body = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "model": MODEL}
        return httpx2.Response(200, json=body)

    own = httpx2.Client(transport=httpx2.MockTransport(plain))
    assert life(provider, url, "plain", http_client=own).id == "resp_1"
    assert bills(url) == ["paid"]


@pytest.mark.parametrize("away", [ac.StoreUnavailable("away"), ac.StoreRefused("no memory"), ac.CommitUnknown("?")])
@pytest.mark.parametrize("kind", KINDS)
def test_an_id_that_cannot_be_stored_does_not_cost_the_answer(
    url: str, provider: Provider, kind: str, away: Exception
) -> None:
    def strike(_: object, change: Any) -> None:
        if change.entry.k == "located":
            raise away

    after_commit.append(strike)
    try:
        life(provider, url, kind)
    finally:
        after_commit.remove(strike)
    paid_once(provider, url)


ENDLESS = [
    b"data: [DONE]\n\n",
    b'data: {"type":"response.in_progress","response":{"id":"resp_1","status":"in_progress"}}\n\ndata: [DONE]\n\n',
    b"",
]


@pytest.mark.parametrize("events", ENDLESS, ids=["only its end", "in progress", "nothing"])
def test_a_plain_calls_stream_without_a_terminal_event_is_no_answer(url: str, events: bytes) -> None:
    own = httpx2.MockTransport(
        lambda request: httpx2.Response(200, content=events, headers={"content-type": "text/event-stream"})
    )
    bare = OpenAI(base_url="http://x", api_key=KEY, max_retries=0, http_client=httpx2.Client(transport=own))
    with ac.wrap(bare, recover=True) as client, pytest.raises(openai.APIConnectionError):
        life_of(client, url)
    assert bills(url) == ["unresolved"] and recorded(url) == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_has_lost_the_run_hears_of_it_when_the_id_is_stored(url: str, provider: Provider, kind: str) -> None:
    def strike(_: object, change: Any) -> None:
        if change.entry.k == "located":
            raise ac.LeaseLost("another's")

    after_commit.append(strike)
    try:
        with pytest.raises(ac.LeaseLost):
            life(provider, url, kind)
    finally:
        after_commit.remove(strike)
    assert recorded(url) == []


def test_a_stream_left_in_the_first_life_is_whole_in_the_second(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url), warnings.catch_warnings():
        stream = client.responses.create(model=MODEL, input="hi", stream=True)
        list(islice(stream, 2))
        stream.close()
    events = []
    with sync_client(provider) as client, ac.run("r", store=url):
        events = list(client.responses.create(model=MODEL, input="hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    paid_once(provider, url)


def test_the_helper_streams_it_again_too(url: str, provider: Provider) -> None:
    stopped(provider, url, "stream")
    for expired in (False, True):
        if expired:
            provider.expire_streams()
        with (
            sync_client(provider) as client,
            ac.run("r", store=url),
            client.responses.stream(model=MODEL, input="hi") as stream,
        ):
            assert stream.get_final_response().output_text == "hi"
    paid_once(provider, url)

"""Answers that were paid for and not recorded: fetched by their ids on resume, under the entry that paid for them."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import httpx2
import openai
import pytest
from asking import KEY, MODEL, PRICES, async_client, bills, chat, recorded, sync_client
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.core.models import Located
from agentcheckpoint.openai.retold import events_of
from agentcheckpoint.store import wire
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import Answer, ToolCall, scripted
from agentcheckpoint.testing.provider import Provider

WORDS = "one two three four"
KINDS = ["stream", "plain"]
"""A stream that the caller reads, and a plain call that travels as a stream underneath."""
COLOURS = ["sync", "async"]


class Stop(BaseException):
    """Unwinds as a killed process would: nothing more is stored of the call."""


def recovering(provider: Provider, **options: Any) -> OpenAI:
    return ac.wrap(sync_client(provider, **options), recover=True)


def recovering_async(provider: Provider, **options: Any) -> AsyncOpenAI:
    return ac.wrap(async_client(provider, **options), recover=True)


def ask(client: OpenAI, kind: str, text: str = "hi") -> Any:
    """The response, however it was asked for."""
    if kind == "plain":
        return client.responses.create(model=MODEL, input=text)
    return list(client.responses.create(model=MODEL, input=text, stream=True))[-1].response


async def ask_async(client: AsyncOpenAI, kind: str, text: str = "hi") -> Any:
    if kind == "plain":
        return await client.responses.create(model=MODEL, input=text)
    return [event async for event in await client.responses.create(model=MODEL, input=text, stream=True)][-1].response


def life(provider: Provider, url: str, kind: str, colour: str = "sync", **options: Any) -> Any:
    """One attempt of the run ``r``, which makes one call."""

    async def on_a_loop() -> Any:
        async with recovering_async(provider, **options) as client, ac.run("r", store=url):
            return await ask_async(client, kind)

    if colour == "async":
        return asyncio.run(on_a_loop())
    with recovering(provider, **options) as client, ac.run("r", store=url):
        return ask(client, kind)


def life_of(client: OpenAI, url: str) -> Any:
    with ac.run("r", store=url):
        return ask(client, "plain")


@contextmanager
def stopping(when: str = "located") -> Iterator[None]:
    """The worker is stopped where a commit of that kind has been applied."""

    def strike(_: object, change: Any) -> None:
        if change.entry.k == when:
            raise Stop

    after_commit.append(strike)
    try:
        yield
    finally:
        after_commit.remove(strike)


def stopped(provider: Provider, url: str, kind: str, colour: str = "sync", **options: Any) -> str:
    """A life that is stopped as soon as the answer's id is stored; the id."""
    with stopping(), pytest.raises(Stop):
        life(provider, url, kind, colour, **options)
    (handle,) = (entry for entry in ac.get("r", store=url).entries if isinstance(entry, Located))
    (entry,) = handle.entries
    assert entry.response_id is not None and entry.request_id is not None
    assert (bills(url), recorded(url), len(provider.journal)) == (["unresolved"], [], 1)
    return entry.response_id


def paid_once(provider: Provider, url: str) -> None:
    view = ac.get("r", store=url)
    assert settle(provider.journal, view.ledger).settled and len(provider.journal) == 1
    assert bills(url) == ["paid"] and view.cost.spent == provider.spent and recorded(url) == ["responses"]


# -- fetched ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_whose_id_is_stored_is_fetched_by_the_next_attempt(url: str, kind: str, colour: str) -> None:
    with Provider(scripted(Answer(text=WORDS, tool_calls=(ToolCall("f", {"x": 1}),), reasoning_tokens=3))) as provider:
        known_as = stopped(provider, url, kind, colour)
        answer = life(provider, url, kind, colour)
        assert answer.id == known_as
        looks = len(provider.looks)
        assert life(provider, url, kind, colour) == answer, "replayed"
        assert (len(provider.requests), len(provider.looks)) == (1, looks)
        with OpenAI(base_url=provider.url, api_key=KEY) as bare:
            assert bare.responses.retrieve(known_as).model_dump() == answer.model_dump()
        paid_once(provider, url)
        request_id = provider.journal[0].request_id
        assert ac.get("r", store=url).ledger[0].request_id == request_id
        if kind == "plain":
            assert answer._request_id == request_id, "it is the answer of the request that was paid for"


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_still_being_made_is_waited_for(url: str, kind: str) -> None:
    with Provider(scripted(Answer(text=WORDS, chunk_delay=0.05))) as provider:
        provider.expire_streams()
        known_as = stopped(provider, url, kind)
        assert life(provider, url, kind).id == known_as
        assert len(provider.looks) > 2
        paid_once(provider, url)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stream_still_under_way_is_read_live(url: str, colour: str) -> None:
    with Provider(scripted(Answer(text=WORDS, chunk_delay=0.03))) as provider:
        known_as = stopped(provider, url, "stream", colour)
        assert life(provider, url, "stream", colour).id == known_as
        assert [look.partition("?")[2] for look in provider.looks] == ["", "stream=true"]
        paid_once(provider, url)


@pytest.mark.parametrize("colour", COLOURS)
def test_one_that_is_waited_for_too_long_is_a_time_out_and_not_bought_again(url: str, colour: str) -> None:
    with Provider(scripted(Answer(text="x", chunk_delay=1.0))) as provider:
        stopped(provider, url, "plain", colour)
        with pytest.raises(openai.APITimeoutError):
            life(provider, url, "plain", colour, timeout=0.2, max_retries=0)
        assert bills(url) == ["unresolved"] and len(provider.journal) == 1
        life(provider, url, "plain", colour)
        paid_once(provider, url)


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_an_expired_stream_is_told_from_the_finished_answer(url: str, finish: Any) -> None:
    said = Answer(text=WORDS, tool_calls=(ToolCall("f", {"x": 1}),), reasoning_tokens=3, finish_reason=finish)
    with Provider(scripted(said)) as provider:
        known_as = stopped(provider, url, "stream")
        provider.expire_streams()
        answer = life(provider, url, "stream")
        with OpenAI(base_url=provider.url, api_key=KEY) as bare:
            assert answer == bare.responses.retrieve(known_as)
        assert answer.status == ("completed" if finish == "stop" else "incomplete")
        assert life(provider, url, "stream") == answer
        paid_once(provider, url)


# -- not to be had ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_gone_is_bought_again_and_its_first_attempt_stays_unresolved(
    url: str, kind: str, colour: str
) -> None:
    with Provider(scripted(WORDS, "again")) as provider:
        provider.forget(stopped(provider, url, kind, colour))
        assert life(provider, url, kind, colour).output_text == "again"
        assert bills(url) == ["unresolved", "paid"] and len(provider.journal) == 2
        life(provider, url, kind, colour)
        assert len(provider.requests) == 2 and len(provider.looks) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_failed_is_booked_as_wasted_and_bought_again(url: str, kind: str) -> None:
    with Provider(scripted(Answer(text=WORDS, error="it broke"), "fine")) as provider:
        stopped(provider, url, kind)
        assert life(provider, url, kind).output_text == "fine"
        cost = ac.get("r", store=url).cost
        assert bills(url) == ["wasted", "paid"] and cost.spent == provider.spent
        assert cost.wasted == provider.journal[0].cost


def answering(provider: Provider, status: int, times: int) -> httpx2.Client:
    """An HTTP client whose first GETs are answered with this status."""
    left = [status] * times

    def strike(response: httpx2.Response) -> None:
        if response.request.method == "GET" and left:
            response.status_code = left.pop()

    return httpx2.Client(event_hooks={"response": [strike]})


@pytest.mark.parametrize("status", [500, 503, 429, 408, 401])
def test_trouble_on_the_way_to_it_buys_nothing(url: str, status: int, provider: Provider) -> None:
    stopped(provider, url, "plain")
    with pytest.raises(openai.APIStatusError):
        life(provider, url, "plain", max_retries=0, http_client=answering(provider, status, 1))
    assert bills(url) == ["unresolved"] and len(provider.journal) == 1
    life(provider, url, "plain")
    paid_once(provider, url)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_server_that_gives_out_no_answers_by_their_ids_is_paid_again(
    url: str, status: int, provider: Provider
) -> None:
    stopped(provider, url, "plain")
    life(provider, url, "plain", http_client=answering(provider, status, 1))
    assert bills(url) == ["unresolved", "paid"]


@pytest.mark.parametrize("body", [{"object": "list", "data": []}, {"id": "resp_other", "status": "completed"}, "hi"])
def test_what_is_another_answer_is_not_taken_for_it(url: str, provider: Provider, body: Any) -> None:
    """Such as that of a gateway which answers every GET."""

    def strike(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=body) if request.method == "GET" else outer.handle_request(request)

    stopped(provider, url, "plain")
    outer = httpx2.HTTPTransport()
    answer = life(provider, url, "plain", http_client=httpx2.Client(transport=httpx2.MockTransport(strike)))
    assert answer.output_text == "hi" and bills(url) == ["unresolved", "paid"]


def test_a_client_keeps_what_it_was_told_of_recovering(url: str, provider: Provider) -> None:
    """Through its copies, and when it is wrapped again for something else."""
    stopped(provider, url, "plain")
    client = ac.wrap(ac.wrap(recovering(provider), provider="openai").with_options(timeout=9), recover=None)
    assert life_of(client, f"{url}2").output_text == "hi"
    assert b'"stream":true' in provider.requests[-1].body
    life_of(ac.wrap(client, recover=False), url)
    assert bills(url) == ["unresolved", "paid"] and provider.looks == []
    client.close()


def test_the_sdks_own_retries_fetch_it_too(url: str, provider: Provider) -> None:
    stopped(provider, url, "plain")
    life(provider, url, "plain", max_retries=1, http_client=answering(provider, 500, 1))
    paid_once(provider, url)


# -- in one life ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_plain_call_whose_line_was_cut_gets_its_answer_by_the_sdks_retry(url: str, colour: str, clean: bool) -> None:
    with Provider(scripted(Answer(text=WORDS, cut_after=3, cut_clean=clean), "not this")) as provider:
        assert life(provider, url, "plain", colour).output_text == WORDS
        paid_once(provider, url)


def test_a_stream_that_was_cut_is_fetched_when_it_is_called_again(url: str) -> None:
    with Provider(scripted(Answer(text=WORDS, cut_after=3), "not this")) as provider:
        with sync_client(provider) as client, ac.run("r", store=url):
            with pytest.raises(openai.APIConnectionError):
                ask(client, "stream")
            assert ask(client, "stream").output_text == WORDS
        paid_once(provider, url)


def test_another_question_does_not_get_the_answer(url: str) -> None:
    with Provider(scripted(WORDS, "new", "old")) as provider:
        stopped(provider, url, "plain")
        with recovering(provider) as client, ac.run("r", store=url):
            assert ask(client, "plain", "something else").output_text == "new"
        assert bills(url) == ["unresolved", "paid"] and provider.looks == []


def test_parallel_answers_find_their_own_calls_in_any_order(url: str) -> None:
    """Both were under way when the worker died; the next one makes them in another order."""
    with Provider(scripted("a", "b")) as provider:
        with stopping(), recovering(provider) as client, pytest.raises(Stop), ac.run("r", store=url):
            for question in ("first", "second"):
                with suppress(Stop):
                    ask(client, "plain", question)
            raise Stop
        with recovering(provider) as client, ac.run("r", store=url):
            assert [ask(client, "plain", text).output_text for text in ("second", "first")] == ["b", "a"]
        assert bills(url) == ["paid", "paid"] and len(provider.journal) == 2


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

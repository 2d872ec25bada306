"""Answers that were paid for and not recorded: fetched by their ids on resume, under the entry that paid for them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx2
import openai
import pytest
from asking import KEY, bills, ready_after, sync_client
from openai import OpenAI
from recovering import COLOURS, KINDS, WORDS, Stop, ask, life, life_of, paid_once, recovering, stopped, stopping

import agentcheckpoint as ac
from agentcheckpoint.testing.brain import Answer, ToolCall, scripted
from agentcheckpoint.testing.provider import Provider

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
    with Provider(scripted(Answer(text=WORDS, chunk_delay=60))) as provider:
        provider.expire_streams()
        ready_after(provider, looks=3)
        known_as = stopped(provider, url, kind)
        assert life(provider, url, kind).id == known_as
        assert len(provider.looks) > 2
        paid_once(provider, url)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stream_still_under_way_is_read_live(url: str, colour: str) -> None:
    with Provider(scripted(Answer(text=WORDS, chunk_delay=60))) as provider:
        ready_after(provider, looks=1)
        known_as = stopped(provider, url, "stream", colour)
        assert life(provider, url, "stream", colour).id == known_as
        assert [look.partition("?")[2] for look in provider.looks] == ["", "stream=true"]
        paid_once(provider, url)


@pytest.mark.parametrize("colour", COLOURS)
def test_one_that_is_waited_for_too_long_is_a_time_out_and_not_bought_again(url: str, colour: str) -> None:
    with Provider(scripted(Answer(text="x", chunk_delay=60))) as provider:
        stopped(provider, url, "plain", colour)
        with pytest.raises(openai.APITimeoutError):
            life(provider, url, "plain", colour, timeout=0.2, max_retries=0)
        assert bills(url) == ["unresolved"] and len(provider.journal) == 1
        ready_after(provider, looks=len(provider.looks) + 1)
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

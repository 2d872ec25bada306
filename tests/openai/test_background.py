"""Background responses: recorded as they were answered, polled by the caller, and settled by what he sees."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest
from asking import MODEL, async_client, bills, ready_after, recorded, sync_client
from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

SLOW = 60.0
"""Seconds that no test waits."""


def ask(client: OpenAI) -> Any:
    return client.responses.create(model=MODEL, input="x", background=True)


def settled(provider: Provider, url: str, bill: str = "paid") -> None:
    view = ac.get("r", store=url)
    assert bills(url) == [bill] and view.cost.unresolved == 0
    assert view.cost.spent == provider.spent == sum(entry.cost or 0 for entry in view.ledger)
    assert settle(provider.journal, view.ledger).settled and len(provider.journal) == 1
    assert sum(row.cost or 0 for row in view.steps) == provider.spent, "the step's row knows it too"


@pytest.mark.parametrize("recover", [True, False, None])
def test_the_queued_answer_is_the_step_and_a_look_at_the_finished_one_settles_it(
    url: str, provider: Provider, recover: bool | None
) -> None:
    for life in range(2):
        with ac.wrap(sync_client(provider), recover=recover) as client, ac.run("r", store=url) as run:
            reply = ask(client)
            assert (reply.status, reply.output, reply.usage) == ("queued", [], None)
            assert run.cost.unresolved == (1 if life == 0 else 0)
            done = client.responses.retrieve(reply.id)
            assert (done.status, done.output_text) == ("completed", "x")
            assert (run.cost.paid, run.cost.unresolved) == (provider.spent, 0)
    assert run.cost.saved == provider.spent and run.cost.replayed == 1
    assert len(provider.requests) == 1 and recorded(url) == ["responses"]
    settled(provider, url)


async def test_async_clients_settle_it_too(url: str, provider: Provider) -> None:
    for _ in range(2):
        async with async_client(provider) as client, ac.run("r", store=url):
            reply = await client.responses.create(model=MODEL, input="x", background=True)
            assert reply.status == "queued"
            assert (await client.responses.retrieve(reply.id)).output_text == "x"
    settled(provider, url)
    assert len(provider.requests) == 1


def test_a_resume_goes_on_polling_for_what_was_asked_before(url: str) -> None:
    with Provider(scripted(Answer(text="at last", delay=SLOW))) as provider:
        ready_after(provider, looks=3)
        with sync_client(provider) as client, ac.run("r", store=url) as run:
            known_as = ask(client).id
            assert client.responses.retrieve(known_as).status == "in_progress"
            assert run.cost.unresolved == 1
        assert bills(url) == ["unresolved"]
        with sync_client(provider) as client, ac.run("r", store=url):
            reply = ask(client)
            assert reply.id == known_as
            while reply.status in ("queued", "in_progress"):
                reply = client.responses.retrieve(reply.id)
            assert reply.output_text == "at last"
        settled(provider, url)


def looks(client: OpenAI, known_as: str) -> dict[str, Callable[[], Any]]:
    def streamed() -> Any:
        events = list(client.responses.retrieve(known_as, stream=True))
        assert events[0].type == "response.created"
        return events[-1].response

    def rest() -> Any:
        return list(client.responses.retrieve(known_as, stream=True, starting_after=1))[-1].response

    def raw() -> Any:
        return client.responses.with_raw_response.retrieve(known_as).parse()

    def read_in_pieces() -> Any:
        with client.responses.with_streaming_response.retrieve(known_as) as response:
            return response.parse()

    def helper() -> Any:
        with client.responses.stream(response_id=known_as) as stream:
            return stream.get_final_response()

    found = (streamed, rest, raw, read_in_pieces, helper)
    return {look.__name__: look for look in found}


@pytest.mark.parametrize("how", ["streamed", "rest", "raw", "read_in_pieces", "helper"])
def test_every_kind_of_look_settles_it_once(url: str, provider: Provider, how: str) -> None:
    commits: list[str] = []
    after_commit.append(lambda _, change: commits.append(change.entry.k))
    try:
        with sync_client(provider) as client, ac.run("r", store=url):
            stream = client.responses.create(model=MODEL, input="x", background=True, stream=True)
            known_as = next(iter(stream)).response.id
            stream.close()
            for _ in range(2):
                assert looks(client, known_as)[how]().output_text == "x"
    finally:
        after_commit.pop()
    assert commits.count("settled") == 1
    assert bills(url) == ["paid"] and ac.get("r", store=url).cost.spent == provider.spent
    with sync_client(provider) as client, ac.run("r", store=url) as run:
        events = list(client.responses.create(model=MODEL, input="x", background=True, stream=True))
        assert events[-1].response.output_text == "x", "the call itself had no answer yet, and fetches it"
    assert run.cost.spent == provider.spent and len(provider.requests) == 1
    assert bills(url) == ["paid"] and recorded(url) == ["responses"]


async def test_an_async_stream_that_is_looked_at_settles_it(url: str, provider: Provider) -> None:
    async with async_client(provider) as client, ac.run("r", store=url):
        stream = await client.responses.create(model=MODEL, input="x", background=True, stream=True)
        known_as = (await anext(aiter(stream))).response.id
        await stream.close()
        again = await client.responses.retrieve(known_as, stream=True)
        assert [event async for event in again][-1].response.output_text == "x"
    settled(provider, url)


def test_looks_at_the_same_time_book_it_once(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url) as run:
        known_as = ask(client).id
        gate = threading.Barrier(4)

        def look() -> None:
            gate.wait(60)
            client.responses.retrieve(known_as)

        threads = [threading.Thread(target=run.bind(look)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    view = ac.get("r", store=url)
    assert [entry.k for entry in view.entries].count("settled") == 1
    settled(provider, url)
    with sync_client(provider) as client, ac.run("r", store=url):
        ask(client)  # the stored totals are the sums of the ledger: else opening it would warn


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_one_that_failed_is_no_result_and_is_bought_again(url: str, colour: str) -> None:
    async def life_async(client: AsyncOpenAI) -> str:
        async with client, ac.run("r", store=url):
            reply = await client.responses.create(model=MODEL, input="x", background=True)
            return (await client.responses.retrieve(reply.id)).status

    def life(client: OpenAI) -> str:
        with client, ac.run("r", store=url):
            return client.responses.retrieve(ask(client).id).status

    with Provider(scripted(Answer(error="it broke"), "fine")) as provider:
        states = [
            asyncio.run(life_async(async_client(provider))) if colour == "async" else life(sync_client(provider))
            for _ in range(2)
        ]
        assert states == ["failed", "completed"]
        assert bills(url) == ["wasted", "paid"]
        assert ac.get("r", store=url).cost.spent == provider.spent


def test_one_that_was_cancelled_stays_and_its_money_unresolved(url: str) -> None:
    """Its provider does not say what it cost; and to buy it again is not what the caller wants."""
    with Provider(scripted(Answer(text="x", delay=SLOW))) as provider:
        with sync_client(provider) as client, ac.run("r", store=url):
            reply = ask(client)
            assert client.responses.cancel(reply.id).status == "cancelled"
        with sync_client(provider) as client, ac.run("r", store=url):
            assert client.responses.retrieve(ask(client).id).status == "cancelled"
        assert len(provider.requests) == 2, "the call and its cancelling"
        assert bills(url) == ["unresolved"] and recorded(url) == ["responses"]


def test_one_that_was_cut_by_its_limit_is_paid(url: str) -> None:
    with Provider(scripted(Answer(text="x", finish_reason="length"))) as provider:
        with sync_client(provider) as client, ac.run("r", store=url):
            assert client.responses.retrieve(ask(client).id).status == "incomplete"
        settled(provider, url)


def test_one_that_was_rejected_before_it_came_is_wasted(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url):
        reply = ask(client)
        ac.reject(reply, "changed my mind")
        assert bills(url) == ["unresolved"]
        client.responses.retrieve(reply.id)
    settled(provider, url, "wasted")


def test_one_that_the_provider_has_forgotten_stays_unresolved(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url):
        reply = ask(client)
        provider.forget(reply.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(reply.id)
    assert bills(url) == ["unresolved"]


def test_looks_at_what_is_none_of_this_runs_business_pass(url: str, provider: Provider) -> None:
    with sync_client(provider) as client:
        other = client.responses.create(model=MODEL, input="x", background=True)
        with ac.run("r", store=url):
            assert client.responses.retrieve(other.id).status == "completed"
        assert client.responses.retrieve(other.id).status == "completed"
    assert bills(url) == []


def test_a_store_that_is_away_does_not_keep_the_answer_from_who_looks(url: str, provider: Provider) -> None:
    def strike(_: object, change: Any) -> None:
        if change.entry.k == "settled":
            raise ac.StoreUnavailable("away")

    with sync_client(provider) as client, ac.run("r", store=url):
        known_as = ask(client).id
        after_commit.append(strike)
        try:
            assert client.responses.retrieve(known_as).status == "completed"
        finally:
            after_commit.remove(strike)

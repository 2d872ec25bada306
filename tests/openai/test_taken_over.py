"""A model call of a worker whose run another has taken: not paid for, or given the heir's answer, or stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from asking import async_client, bills, chat, chat_async, recorded, sync_client

import agentcheckpoint as ac
from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.provider import Provider

USAGE: Any = {"include_usage": True}


def numbered(request: Request) -> Answer:
    return Answer(text=f"answer {request.n}")


def heir(url: str, provider: Provider, ask: Callable[[Any], Any] | None) -> None:
    """Takes the run as if its worker had died, and goes on with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agentcheckpoint.taking.released_here", lambda _: True)
        with sync_client(provider) as client, ac.run("r", store=url):
            patch.undo()
            if ask is not None:
                ask(client)


def once(action: Callable[[], None]) -> Callable[[object], None]:
    """For a hook that sees the heir's own requests too."""
    done: list[bool] = []

    def act(_: object) -> None:
        if not done:
            done.append(True)
            action()

    return act


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_its_intent_stops_it_before_it_pays(url: str, provider: Provider, colour: str) -> None:
    async def on_a_loop() -> None:
        async with async_client(provider) as client, ac.run("r", store=url):
            await asyncio.to_thread(heir, url, provider, None)
            await chat_async(client)

    def blocking() -> None:
        with sync_client(provider) as client, ac.run("r", store=url):
            heir(url, provider, None)
            chat(client)

    with pytest.raises(ac.LeaseLost):
        asyncio.run(on_a_loop()) if colour == "async" else blocking()
    assert not provider.requests


def test_it_gets_the_heirs_answer_if_he_has_recorded_the_same_step(url: str) -> None:
    with Provider(numbered) as provider:
        hook = once(lambda: heir(url, provider, chat))
        own = httpx2.Client(event_hooks={"response": [hook]})
        with pytest.raises(ac.LeaseLost), sync_client(provider, http_client=own) as client:
            with ac.run("r", store=url):
                answer = chat(client)
        assert answer.choices[0].message.content == "answer 2"
        assert len(provider.journal) == 2 and sorted(bills(url)) == ["paid", "wasted"]
        assert ac.get("r", store=url).cost.spent == provider.spent


def test_it_cannot_refuse_the_heirs_answer_and_is_told_why(url: str) -> None:
    with Provider(numbered) as provider:
        hook = once(lambda: heir(url, provider, chat))
        own = httpx2.Client(event_hooks={"response": [hook]})
        with sync_client(provider, http_client=own) as client, pytest.raises(ac.LeaseLost), ac.run("r", store=url):
            answer = chat(client)
            with pytest.raises(ac.LeaseLost):
                ac.reject(answer, "it is bad")
        assert sorted(bills(url)) == ["paid", "wasted"]


@pytest.mark.parametrize("take", ["to its end", "left after its last word"])
def test_a_stream_that_was_already_heard_is_no_answer_of_the_heirs(url: str, take: str) -> None:
    """Its reader has other words than the record: he must not go on with them."""
    with Provider(numbered) as provider:
        hook = once(lambda: heir(url, provider, lambda client: list(chat(client, stream=True, stream_options=USAGE))))
        own = httpx2.Client(event_hooks={"response": [hook]})
        heard: list[Any] = []
        with pytest.raises(ac.LeaseLost, match="streamed"), sync_client(provider, http_client=own) as client:
            with ac.run("r", store=url) as run:
                for event in chat(client, stream=True, stream_options=USAGE):
                    heard.append(event)
                    if take != "to its end" and event.choices and event.choices[0].finish_reason:
                        break
                run.step("next", int, 1)
                raise AssertionError("it went on")
        assert len(provider.journal) == 2 and heard
        assert recorded(url) == ["chat"] and sorted(bills(url)) == ["paid", "wasted"]


def test_what_it_paid_and_cannot_record_is_wasted_under_the_heir(url: str) -> None:
    with Provider(numbered) as provider:
        own = httpx2.Client(event_hooks={"response": [once(lambda: heir(url, provider, None))]})
        with pytest.raises(ac.LeaseLost), sync_client(provider, http_client=own) as client, ac.run("r", store=url):
            chat(client)
        assert bills(url) == ["wasted"] and len(provider.journal) == 1
        assert ac.get("r", store=url).cost.wasted == provider.spent

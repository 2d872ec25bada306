"""A conversation that the provider has forgotten: the error names the step to make again."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from asking import MODEL, async_client, bills, sync_client
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.testing.brain import scripted
from agentcheckpoint.testing.provider import Provider


def talk(client: OpenAI, *, again: bool = False) -> tuple[str, str]:
    with ac.name("first"):
        first = client.responses.create(model=MODEL, input="one")
    if again:
        ac.reject(first.id, "forgotten")
        with ac.name("first"):
            first = client.responses.create(model=MODEL, input="one")
    with ac.name("second"):
        second = client.responses.create(model=MODEL, input="two", previous_response_id=first.id)
    return first.output_text, second.output_text


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


def first_of(provider: Provider, url: str) -> str:
    """The first step is recorded, and the provider has forgotten its answer."""
    with sync_client(provider) as client, ac.run("r", store=url), ac.name("first"):
        known_as = client.responses.create(model=MODEL, input="one").id
    provider.forget(known_as)
    return known_as


def test_it_names_the_step_and_what_it_says_to_do_works(url: str) -> None:
    with Provider(scripted("a", "A", "B")) as provider:
        known_as = first_of(provider, url)
        with sync_client(provider) as client, ac.run("r", store=url):
            with pytest.raises(openai.BadRequestError) as caught:
                talk(client)
            assert caught.value.code == "previous_response_not_found"
        said = notes(caught.value)
        assert "run 'r', step 'second'" in said and "step 'first'" in said and f"ac.reject({known_as!r}" in said
        with sync_client(provider) as client, ac.run("r", store=url):
            assert talk(client, again=True) == ("A", "B")
        with sync_client(provider) as client, ac.run("r", store=url):
            assert talk(client) == ("A", "B")
        assert sorted(bills(url)) == ["not_billed", "paid", "paid", "wasted"] and len(provider.journal) == 3


def test_an_async_client_says_it_too(url: str) -> None:
    async def go_on(known_as: str) -> None:
        async with async_client(provider) as client, ac.run("r", store=url):
            await client.responses.create(model=MODEL, input="two", previous_response_id=known_as)

    with Provider(scripted("a")) as provider:
        known_as = first_of(provider, url)
        with pytest.raises(openai.BadRequestError) as caught:
            asyncio.run(go_on(known_as))
    assert "step 'first'" in notes(caught.value), "though this attempt has not replayed it"


def test_an_answer_of_no_step_is_said_to_come_from_elsewhere(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url), pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input="two", previous_response_id="resp_other")
    assert "came from elsewhere" in notes(caught.value)


def test_it_is_said_once_and_of_nothing_else(url: str, provider: Provider) -> None:
    def ask(client: OpenAI, **options: Any) -> str:
        with ac.run("r", store=url), pytest.raises(openai.APIStatusError) as caught:
            client.responses.create(model=MODEL, **options)
        return notes(caught.value)

    with sync_client(provider) as client:
        assert ask(client, input="x", previous_response_id="resp_other").count("agentcheckpoint:") == 1
        assert ask(client, input=[], previous_response_id=None) == ""

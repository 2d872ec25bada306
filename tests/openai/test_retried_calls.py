"""Model calls inside of steps with policies: what the provider receives and is paid, and what the ledger has."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest
from asking import MODEL, async_client, bills, chat, chat_async, recorded, sync_client
from openai import AsyncOpenAI, OpenAI
from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_fixed

import agentcheckpoint as ac
from agentcheckpoint.core.models import Failed
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

BROKEN = Answer(status=500, error="broken")
THREE = Retrying(stop=stop_after_attempt(3))
FAST: dict[str, Any] = {"max_retries": 2}


def ask(client: OpenAI, text: str = "hi", **options: Any) -> str:
    return str(chat(client, text, **options).choices[0].message.content)


async def ask_async(client: AsyncOpenAI) -> str:
    return str((await chat_async(client)).choices[0].message.content)


@pytest.mark.parametrize("colour", ["blocking", "async"])
@pytest.mark.parametrize("depth", [1, 2])
def test_three_tries_are_three_posts_and_three_entries(url: str, colour: str, depth: int) -> None:
    """Also if the policy is that of a step further out."""
    step = ac.Step("s", retry=THREE)
    with Provider(scripted(BROKEN, BROKEN, "good")) as provider:
        if colour == "blocking":
            client = sync_client(provider, **FAST)
            with ac.run("r", store=url) as run:
                inner = (run.step, "inner", ask) if depth == 2 else (ask,)
                assert run.step(step, *inner, client) == "good"
        else:

            async def main() -> None:
                async with async_client(provider, **FAST) as client, ac.run("r", store=url) as run:

                    async def nested() -> str:
                        return await run.step("inner", ask_async, client)

                    called = run.step(step, nested) if depth == 2 else run.step(step, ask_async, client)
                    assert await called == "good"

            asyncio.run(main())
        assert len(provider.requests) == 3
        assert bills(url) == ["unresolved", "unresolved", "paid"]
        tries = [entry.slot for entry in ac.get("r", store=url).entries if isinstance(entry, Failed)]
        assert tries.count("s") == 2, "each of them is a try of the step, and none the SDK's own"
        assert settle(provider.journal, ac.get("r", store=url).ledger).problems == ()


def test_the_clients_retries_are_its_own_again_outside_of_such_a_step(url: str) -> None:
    with Provider(scripted(BROKEN, "one", BROKEN, "two")) as provider:
        client = sync_client(provider, **FAST)
        with ac.run("r", store=url) as run:
            assert run.step("plain", ask, client) == "one"
            assert ask(client) == "two"
            with pytest.raises(openai.InternalServerError):
                run.step(ac.Step("s", retry=Retrying(stop=stop_after_attempt(1))), ask, client, "more")
        assert len(provider.requests) == 5 and client.max_retries == 2


def test_retries_that_are_asked_for_by_name_are_off_too(url: str) -> None:
    with Provider(scripted(*[BROKEN] * 9)) as provider:
        client = sync_client(provider).with_options(max_retries=5)
        with ac.run("r", store=url) as run, pytest.raises(openai.InternalServerError):
            run.step(ac.Step("s", retry=Retrying(stop=stop_after_attempt(2))), ask, client)
        assert len(provider.requests) == 2


def test_what_is_recorded_inside_is_not_paid_twice(url: str) -> None:
    """An inner call that was paid for in the first try is replayed in the second."""
    tries: list[int] = []

    def work(client: OpenAI) -> list[str]:
        tries.append(1)
        plan = ask(client, "plan")
        if len(tries) == 1:
            raise ValueError("after the first call")
        return [plan, ask(client, f"do: {plan}")]

    with Provider() as provider:
        client = sync_client(provider)
        with ac.run("r", store=url) as run:
            assert run.step(ac.Step("s", retry=THREE), work, client) == ["plan", "do: plan"]
            assert run.cost.spent == provider.spent
        accounts = settle(provider.journal, ac.get("r", store=url).ledger)
        assert (len(tries), len(provider.journal), accounts.paid_twice, accounts.problems) == (2, 2, 0, ())
        assert sorted(recorded(url)) == ["s", "s/chat", "s/chat#2"]


def test_what_the_provider_asks_to_wait_is_waited(url: str) -> None:
    waits: list[float] = []

    def note(state: RetryCallState) -> None:
        waits.append(state.upcoming_sleep)

    limited = Answer(status=429, error="slow down", retry_after="1")
    with Provider(scripted(limited, "good")) as provider:
        client = sync_client(provider)
        began = time.monotonic()
        with ac.run("r", store=url) as run:
            policy = Retrying(stop=stop_after_attempt(2), wait=wait_fixed(0.1), before_sleep=note)
            assert run.step(ac.Step("s", retry=policy), ask, client) == "good"
        assert waits == [1.0] and time.monotonic() - began >= 1
        assert bills(url) == ["not_billed", "paid"]


def test_a_stream_that_breaks_is_tried_again(url: str) -> None:
    def read(client: OpenAI) -> str:
        chunks = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    with Provider(scripted(Answer(text="a few words", cut_after=2), "a few words")) as provider:
        with ac.run("r", store=url) as run:
            assert run.step(ac.Step("s", retry=THREE), read, sync_client(provider)) == "a few words"
        assert len(provider.requests) == 2 and bills(url) == ["unresolved", "paid"]

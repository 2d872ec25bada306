"""What the tests of recovery have in common: clients that recover, a life of one call, and one that is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asking import MODEL, async_client, bills, recorded, sync_client
from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.core.models import Located
from agentcheckpoint.testing.accounts import settle
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

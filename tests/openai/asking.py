"""What the tests of the model calls have in common: clients, prices, questions, and a look at the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.core.pricing import Price
from agentcheckpoint.testing.provider import Provider

MODEL = "demo-large"
PRICES = {MODEL: Price(input="2.5", output="10", cached="0.25")}
"""What the provider bills, as a user would write it."""
KEY = "sk-very-secret-key-0123456789"


def sync_client(provider: Provider, **options: Any) -> OpenAI:
    return ac.wrap(OpenAI(base_url=provider.url, api_key=KEY, **options), prices=PRICES)


def async_client(provider: Provider, **options: Any) -> AsyncOpenAI:
    return ac.wrap(AsyncOpenAI(base_url=provider.url, api_key=KEY, **options), prices=PRICES)


def user(text: str) -> list[Any]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def chat(client: OpenAI, text: str = "hi", **options: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=user(text), **options)


async def chat_async(client: AsyncOpenAI, text: str = "hi", **options: Any) -> Any:
    return await client.chat.completions.create(model=MODEL, messages=user(text), **options)


def bills(url: str, run_id: str = "r") -> list[str]:
    """What became of each attempt's money, in the order in which they were made."""
    return [entry.bill for entry in ac.get(run_id, store=url).ledger]


def recorded(url: str, run_id: str = "r") -> list[str]:
    """The slots that have a record."""
    return [row.slot for row in ac.get(run_id, store=url).steps if row.outcome == "done"]


def ready_after(provider: Provider, looks: int) -> None:
    """Its slow answers are ready once the provider was looked at so often, however fast the machine is.

    What streams them from then on takes a tenth of a second.
    """
    shelf = provider._desk.shelf
    get = shelf.get

    def counted(response_id: str, asked: Mapping[str, str], request_id: str) -> Any:
        reply = get(response_id, asked, request_id)
        if len(provider.looks) == looks:
            shelf._stored[response_id] = replace(shelf._stored[response_id], ready=time.monotonic() + 0.1)
        return reply

    shelf.get = counted  # type: ignore[method-assign]


def is_last_word(chunk: Any) -> bool:
    """Whether a chunk of a chat stream has its ``finish_reason``."""
    return bool(chunk.choices and chunk.choices[0].finish_reason)

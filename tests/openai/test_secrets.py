"""What a request carries in its headers is nowhere in the store; of an answer's headers, only the safe ones are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import fakeredis
import httpx2
import openai
import pytest
from asking import KEY, MODEL, async_client, chat, sync_client
from openai import AzureOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.openai.answer import SAFE_HEADERS
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

SENT = {"Authorization": f"Bearer {KEY}", "Cookie": "biscuit-7", "X-Api-Key": "other-key-7", "X-Trace": "trace-7"}
RECEIVED = {"set-cookie": "sid=session-7", "openai-organization": "org-7", "x-ratelimit-remaining": "4711-7"}
SECRETS = [
    KEY,
    "biscuit-7",
    "other-key-7",
    "trace-7",
    "session-7",
    "org-7",
    "4711-7",
    "uthorization",
    "earer ",
    "proxy-7",
]


def everything(redis: Any) -> Iterator[bytes]:
    """Every key, field, member and value of the server."""
    for key in redis.keys("*"):
        yield key
        match redis.type(key):
            case b"string":
                yield redis.get(key)
            case b"list":
                yield from redis.lrange(key, 0, -1)
            case b"set":
                yield from redis.smembers(key)
            case b"zset":
                yield from redis.zrange(key, 0, -1)
            case b"hash":
                for field, value in redis.hgetall(key).items():
                    yield field
                    yield value
            case other:
                raise AssertionError(other)


@pytest.fixture
def redis() -> Any:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


def marked(response: httpx2.Response) -> None:
    response.headers.update(RECEIVED)


async def marked_async(response: httpx2.Response) -> None:
    marked(response)


def test_no_header_of_a_request_is_stored_and_only_safe_ones_of_an_answer(redis: Any) -> None:
    script = scripted(
        "a", "b", "c", Answer(status=429, error="slow down", retry_after="0"), "d", Answer(status=401, error="no")
    )
    with Provider(script) as provider:
        own = httpx2.Client(event_hooks={"response": [marked]}, headers=SENT)
        with sync_client(provider, http_client=own, default_headers=SENT) as client:
            with pytest.raises(openai.AuthenticationError), ac.run("r", store=redis):
                chat(client)
                list(chat(client, stream=True))
                client.embeddings.create(model=MODEL, input="x", extra_headers={"X-Trace": "trace-7"})
                client.responses.create(model=MODEL, input="x")
                chat(client, "refused")
        assert {request.headers["cookie"] for request in provider.requests} == {"biscuit-7"}
    stored = list(everything(redis))
    assert any(b"chatcmpl-" in part for part in stored), "the answers are there"
    for secret in SECRETS:
        assert not [part for part in stored if secret.encode() in part], secret


def test_nor_by_an_async_client_that_is_cut_off(redis: Any) -> None:
    async def ask(provider: Provider) -> None:
        own = httpx2.AsyncClient(event_hooks={"response": [marked_async]}, headers=SENT)
        async with async_client(provider, http_client=own, default_headers=SENT, max_retries=0) as client:
            async with ac.run("r", store=redis):
                await client.responses.create(model=MODEL, input="x")
                await client.responses.create(model=MODEL, input="y")

    with Provider(scripted("a", Answer(drop="after"))) as provider, pytest.raises(openai.APIConnectionError):
        asyncio.run(ask(provider))
    stored = b"\n".join(everything(redis))
    assert b"resp_" in stored and b"APIConnectionError" in stored
    assert not [secret for secret in SECRETS if secret.encode() in stored]


def test_nor_what_stands_in_an_address(redis: Any) -> None:
    """Azure's key is a header; others put one into the query, or into the proxy's URL."""
    azure = AzureOpenAI(azure_endpoint="http://127.0.0.1:1", api_version="v", api_key=KEY, max_retries=0)
    by_query = OpenAI(
        base_url="http://127.0.0.1:1/v1",
        api_key="k",
        default_query={"key": KEY},
        http_client=httpx2.Client(proxy="http://user:proxy-7@127.0.0.1:1"),
        max_retries=0,
    )
    for n, bare in enumerate((azure, by_query)):
        with ac.wrap(bare) as client, pytest.raises(openai.APIConnectionError), ac.run(f"r{n}", store=redis):
            chat(client)
    stored = b"\n".join(everything(redis))
    assert b"APIConnectionError" in stored
    assert not [secret for secret in SECRETS if secret.encode() in stored]


def test_the_safe_headers_are_what_a_replay_needs() -> None:
    assert sorted(SAFE_HEADERS) == ["content-type", "date", "openai-processing-ms", "openai-version", "x-request-id"]

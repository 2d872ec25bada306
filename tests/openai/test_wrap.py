"""What ``ac.wrap`` gives back: the same client as far as anybody can tell, and the user's own settings in force."""

from __future__ import annotations

import copy
import pathlib
import subprocess
import sys
from typing import Any

import httpx2
import openai
import pytest
from asking import KEY, MODEL, PRICES, chat, chat_async, recorded, sync_client
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.core.pricing import Price
from agentcheckpoint.testing.desk import Received
from agentcheckpoint.testing.provider import Provider


def without_time(request: Received) -> tuple[str, dict[str, str], bytes]:
    return request.path, {k: v for k, v in request.headers.items() if k != "x-client-request-id"}, request.body


def test_inside_a_run_only_the_requests_own_id_is_added(url: str, provider: Provider) -> None:
    with OpenAI(base_url=provider.url, api_key=KEY, default_headers={"X-Mine": "1"}) as bare:
        wrapped = ac.wrap(bare)
        for kind in range(2):
            chat(bare, extra_body={"seed": 1}) if kind else bare.embeddings.create(model=MODEL, input="x")
            chat(wrapped, extra_body={"seed": 1}) if kind else wrapped.embeddings.create(model=MODEL, input="x")
            with ac.run(f"r{kind}", store=url):
                chat(wrapped, extra_body={"seed": 1}) if kind else wrapped.embeddings.create(model=MODEL, input="x")
    for one in (0, 3):
        first, outside, inside = provider.requests[one : one + 3]
        assert without_time(first) == without_time(outside) == without_time(inside)
        assert "x-client-request-id" not in first.headers | outside.headers
        assert inside.headers["x-client-request-id"] in {p.client_request_id for p in provider.journal}


def test_the_users_own_request_id_is_kept(url: str, provider: Provider) -> None:
    with sync_client(provider, default_headers={"X-Client-Request-Id": "mine"}) as client, ac.run("r", store=url):
        chat(client)
    assert provider.journal[0].client_request_id == "mine"


def test_switched_off_nothing_is_stored_and_every_call_is_paid(
    url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    for _ in range(2):
        with sync_client(provider) as client, ac.run("r", store=url):
            ac.reject(chat(client), "no good")
            list(chat(client, stream=True))
    assert len(provider.journal) == 4
    assert all("x-client-request-id" not in request.headers for request in provider.requests)
    monkeypatch.delenv("AGENTCHECKPOINT")
    with pytest.raises(ac.RunNotFound):
        ac.get("r", store=url)


def test_copies_stay_wrapped_and_keep_their_terms(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url) as run:
        for number, other in enumerate(
            (
                client.copy(),
                client.with_options(timeout=5),
                client.with_options(max_retries=0).with_options(default_headers={"X-Mine": "2"}),
                copy.copy(client),
            )
        ):
            assert type(other) is type(client)
            chat(other, f"number {number}")
    assert run.cost.unpriced == 0 and run.cost.paid == provider.spent
    assert len(recorded(url)) == len(provider.journal) == 4
    assert provider.requests[2].headers["x-mine"] == "2"


def test_a_copy_for_another_server_has_another_servers_prices(url: str, provider: Provider) -> None:
    """OpenAI's published prices hold for OpenAI's own address alone, whatever the client was wrapped with."""
    with ac.wrap(OpenAI(api_key=KEY)) as client, ac.run("r", store=url) as run:
        client.with_options(base_url=provider.url).responses.create(model="gpt-5-mini", input="x")
    assert run.cost.unpriced == 1 and run.cost.paid == 0


def test_prices_come_from_the_users_table_then_from_the_named_provider(url: str, provider: Provider) -> None:
    costs = []
    for terms in (
        {},
        {"provider": "openai"},
        {"provider": "openai", "prices": {"gpt-5-mini": Price(input=1, output=1)}},
    ):
        name = f"r{len(costs)}"
        with ac.wrap(OpenAI(base_url=provider.url, api_key=KEY), **terms) as client, ac.run(name, store=url) as run:
            client.responses.create(model="gpt-5-mini", input="x" * 400)
        entry = ac.get(name, store=url).ledger[0]
        costs.append((entry.cost, entry.price))
        assert run.cost.paid == (entry.cost or 0)
        usage = entry.usage
    assert usage is not None
    assert costs[0][0] is None and "not a known provider" in str(costs[0][1])
    assert costs[1][0] == usage.input_tokens * 250 + usage.output_tokens * 2000
    assert costs[2] == ((usage.input_tokens + usage.output_tokens) * 1000, "table (gpt-5-mini)")


def test_a_wrapped_client_is_wrapped_once_and_can_be_given_other_terms(url: str, provider: Provider) -> None:
    bare = OpenAI(base_url=provider.url, api_key=KEY)
    with ac.wrap(bare) as wrapped:
        assert ac.wrap(wrapped) is wrapped
        priced = ac.wrap(wrapped, prices=PRICES)
        assert priced is not wrapped and type(priced) is type(wrapped)
        with ac.run("r", store=url) as run:
            chat(priced)
    assert len(provider.requests) == 1
    assert run.cost.paid == provider.spent


def test_the_client_that_was_given_is_left_as_it_was(url: str, provider: Provider) -> None:
    with OpenAI(base_url=provider.url, api_key=KEY) as bare:
        before = dict(vars(bare)), bare.chat.completions
        wrapped = ac.wrap(bare)
        assert wrapped.chat.completions is not bare.chat.completions
        with ac.run("r", store=url) as run:
            chat(bare)
            assert run.cost.attempts == 0
        assert vars(bare) == {**before[0], "chat": bare.chat}
        assert bare.chat.completions is before[1]
        assert type(bare) is OpenAI and isinstance(wrapped, OpenAI)
        assert (type(wrapped).__name__, type(wrapped).__module__) == ("OpenAI", OpenAI.__module__)


def test_the_users_own_http_client_sends_everything(url: str, provider: Provider) -> None:
    seen: list[str] = []

    class Transport(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            seen.append("transport")
            return super().handle_request(request)

    hooks: Any = {"request": [lambda _: seen.append("before")], "response": [lambda _: seen.append("after")]}
    own = httpx2.Client(transport=Transport(), headers={"X-Mine": "1"}, event_hooks=hooks, timeout=7)
    with sync_client(provider, http_client=own, default_query={"q": "1"}) as client, ac.run("r", store=url):
        chat(client)
        list(client.responses.create(model=MODEL, input="x", stream=True))
    assert seen == ["before", "transport", "after"] * 2
    assert {request.headers["x-mine"] for request in provider.requests} == {"1"}
    assert {request.headers["x-stainless-read-timeout"] for request in provider.requests} == {"7"}
    assert own.is_closed


def test_a_proxy_of_the_users_is_asked(url: str, provider: Provider) -> None:
    """The provider is the proxy here: one for plain HTTP gets the whole URL in the request's first line."""
    own = httpx2.Client(proxy=provider.url.removesuffix("/v1"))
    bare = OpenAI(base_url="http://api.nowhere.test/v1", api_key=KEY, http_client=own, max_retries=0)
    with ac.wrap(bare, prices=PRICES) as client, ac.run("r", store=url) as run:
        chat(client)
    assert provider.requests[0].headers["host"] == "api.nowhere.test"
    assert run.cost.paid == provider.spent > 0


async def test_the_aiohttp_client_sends_everything(url: str, provider: Provider) -> None:
    pytest.importorskip("aiohttp")
    client = AsyncOpenAI(base_url=provider.url, api_key=KEY, http_client=openai.DefaultAioHttpClient())
    for _ in range(2):
        async with ac.run("r", store=url) as run:
            await chat_async(ac.wrap(client, prices=PRICES))
            async for _ in await chat_async(ac.wrap(client, prices=PRICES), stream=True):
                pass
    await client.close()
    assert len(provider.journal) == 2 and run.cost.replayed == 2


def test_azures_clients_are_wrapped_with_their_own_addresses(url: str, provider: Provider) -> None:
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.path)
        with httpx2.Client() as http:
            return http.post(f"{provider.url}/{request.url.path.rpartition('/')[2]}", content=request.content)

    own = httpx2.Client(transport=httpx2.MockTransport(answer))
    azure = AzureOpenAI(azure_endpoint="https://mine.test", api_version="v", api_key=KEY, http_client=own)
    for _ in range(2):
        with ac.run("r", store=url) as run:
            reply = ac.wrap(azure, prices=PRICES).with_options(timeout=3).embeddings.create(model=MODEL, input="x")
    assert isinstance(ac.wrap(azure), AzureOpenAI)
    assert reply.model == MODEL and run.cost.replayed == 1 and run.cost.spent == provider.spent > 0
    assert seen == [f"/openai/deployments/{MODEL}/embeddings"]
    wrapped = ac.wrap(AsyncAzureOpenAI(azure_endpoint="https://mine.test", api_version="v", api_key=KEY))
    assert isinstance(wrapped, AsyncAzureOpenAI) and isinstance(wrapped.copy(), AsyncAzureOpenAI)


def test_a_users_own_subclass_stays_in_force(url: str, provider: Provider) -> None:
    class Mine(OpenAI):
        def mine(self) -> str:
            return str(chat(self, "from inside").choices[0].message.content)

    for _ in range(2):
        with ac.wrap(Mine(base_url=provider.url, api_key=KEY)) as client, ac.run("r", store=url):
            assert client.mine() == "from inside"
    assert len(provider.journal) == 1


def test_what_cannot_be_wrapped_is_refused_with_advice(provider: Provider) -> None:
    with pytest.raises(ac.RunMisuse, match="not str"):
        ac.wrap("client")  # type: ignore[type-var]
    with pytest.raises(ac.RunMisuse, match="not type"):
        ac.wrap(OpenAI)  # type: ignore[type-var]


LEGACY = """
import sys, types
class Client:  # what the SDK takes for a client of the legacy library
    timeout = None
httpx = types.ModuleType("httpx")
for name in "Auth AsyncClient URL Response Timeout Limits".split():
    setattr(httpx, name, type(name, (), {}))
for name in "TimeoutException RequestError HTTPStatusError StreamConsumed RequestNotRead".split():
    setattr(httpx, name, type(name, (Exception,), {}))
Client.__module__ = "httpx"
httpx.Client = Client
sys.modules["httpx"] = httpx
import agentcheckpoint as ac
from openai import OpenAI
for attempt in (
    lambda: ac.wrap(OpenAI(api_key="k", http_client=Client())),
    lambda: ac.wrap(OpenAI(api_key="k")).with_options(http_client=Client()),
):
    try:
        attempt()
    except ac.RunMisuse as exc:
        print(exc)
"""


def test_the_legacy_http_library_is_refused_also_in_a_copy(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "legacy.py"
    script.write_text(LEGACY)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.count("sends through httpx, which cannot be recorded safely") == 2

"""One ledger entry for each POST, with what became of its money: settled with the provider's own journal."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from asking import KEY, MODEL, PRICES, async_client, bills, chat, chat_async, recorded, sync_client
from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

LIMITED = Answer(status=429, error="slow down", retry_after="0")
BROKEN = Answer(status=503, error="busy", retry_after="0")
LOST = Answer(text="gone", drop="after")
SLOW = Answer(text="gone", delay=600)
USAGE: Any = {"include_usage": True}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own pauses between its attempts, made short."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)


def settle(url: str, provider: Provider) -> None:
    """Each payment of the provider's is one entry, by the id that was sent along; and no entry claims another."""
    view = ac.get("r", store=url)
    by_id = {entry.id: entry for entry in view.ledger}
    assert {payment.client_request_id for payment in provider.journal} <= set(by_id)
    assert len(by_id) == len(provider.requests)
    paid = {payment.client_request_id: payment for payment in provider.journal}
    for entry in view.ledger:
        if entry.bill in ("paid", "wasted"):
            assert (entry.cost, entry.request_id) == (paid[entry.id].cost, paid[entry.id].request_id)
        elif entry.bill == "not_billed":
            assert entry.id not in paid


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["answer", "stream"])
@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ((LIMITED, "ok"), ["not_billed", "paid"]),
        ((LIMITED, BROKEN, "ok"), ["not_billed", "unresolved", "paid"]),
        ((LOST, "ok"), ["unresolved", "paid"]),
        ((Answer(drop="before"), "ok"), ["unresolved", "paid"]),
        ((SLOW, "ok"), ["unresolved", "paid"]),
        ((LIMITED, LIMITED, LIMITED), ["not_billed"] * 3),
        ((LIMITED, LIMITED, LOST), ["not_billed", "not_billed", "unresolved"]),
        ((BROKEN, BROKEN, LIMITED), ["unresolved", "unresolved", "not_billed"]),
        ((Answer(status=401, error="no"),), ["not_billed"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(_short(answer) for answer in value),
)
def test_each_hidden_attempt_is_an_entry(
    url: str, colour: str, stream: bool, script: tuple[Any, ...], wanted: list[str]
) -> None:
    options = {"stream": True, "stream_options": USAGE} if stream else {}
    hurry = hurried(script)

    async def hurry_async(request: httpx2.Request) -> None:
        hurry(request)

    async def ask_async() -> None:
        http = httpx2.AsyncClient(event_hooks={"request": [hurry_async]})
        async with async_client(provider, http_client=http) as client, ac.run("r", store=url):
            answer = await chat_async(client, **options)
            if stream:
                assert [event async for event in answer]

    def ask() -> None:
        http = httpx2.Client(event_hooks={"request": [hurry]})
        with sync_client(provider, http_client=http) as client, ac.run("r", store=url):
            answer = chat(client, **options)
            if stream:
                assert list(answer)

    with Provider(scripted(*script)) as provider:
        good = script[-1] == "ok"
        try:
            ask() if colour == "sync" else asyncio.run(ask_async())
        except openai.APIError:
            assert not good
        else:
            assert good
        assert bills(url) == wanted
        settle(url, provider)
        assert recorded(url) == (["chat"] if good else [])
        cost = ac.get("r", store=url).cost
        assert cost.paid == (provider.journal[-1].cost if good else 0)
        assert cost.unresolved == wanted.count("unresolved") and cost.attempts == len(wanted)


def hurried(script: tuple[Any, ...]) -> Callable[[httpx2.Request], None]:
    """Waits half a second for the answer that is slow, and as long as need be for each other."""
    answers = iter(script)

    def hurry(request: httpx2.Request) -> None:
        if next(answers) is SLOW:
            request.extensions["timeout"]["read"] = 0.5

    return hurry


def _short(answer: Any) -> str:
    return answer if isinstance(answer, str) else answer.drop or str(answer.status if not answer.delay else "slow")


def test_retry_after_is_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    limited = Answer(status=429, error="slow down", retry_after="7")
    with Provider(scripted(limited, "ok")) as provider, sync_client(provider) as client, ac.run("r", store=url):
        chat(client)
    assert 7.0 in slept


def test_no_retries_means_none(url: str) -> None:
    with Provider(scripted(LIMITED, "ok")) as provider:
        with pytest.raises(openai.RateLimitError), sync_client(provider, max_retries=0) as client:
            with ac.run("r", store=url):
                chat(client)
        assert len(provider.requests) == 1 and bills(url) == ["not_billed"]


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.mark.parametrize("how", ["refused", "refused, async", "proxy", "scheme"])
def test_what_never_reached_the_provider_is_not_billed(url: str, how: str) -> None:
    nowhere = f"http://127.0.0.1:{_closed_port()}/v1"

    async def ask_async() -> None:
        async with AsyncOpenAI(base_url=nowhere, api_key=KEY, max_retries=0) as bare, ac.run("r", store=url):
            await chat_async(ac.wrap(bare))

    def ask() -> None:
        options: dict[str, Any] = {"base_url": nowhere}
        if how == "scheme":
            options = {"base_url": "ftp://provider.test/v1"}
        elif how == "proxy":  # it answers CONNECT with an error
            options = {"base_url": "https://provider.test/v1", "http_client": httpx2.Client(proxy=proxy)}
        with OpenAI(api_key=KEY, max_retries=0, **options) as bare, ac.run("r", store=url):
            chat(ac.wrap(bare))

    with Provider() as other, pytest.raises(openai.APIConnectionError):
        proxy = other.url.removesuffix("/v1")
        asyncio.run(ask_async()) if "async" in how else ask()
    assert bills(url) == ["not_billed"]
    assert ac.get("r", store=url).cost.unresolved == 0


def test_the_accounts_agree_with_the_provider_over_a_run_of_all_kinds(url: str) -> None:
    brain = scripted(
        LIMITED, "a", "b", LIMITED, LIMITED, "c", Answer(text="d", reasoning_tokens=50), Answer(error="e"), ""
    )
    with Provider(brain, cache_minimum=128) as provider, sync_client(provider) as client:
        for _ in range(2):
            with ac.run("r", store=url) as run:
                chat(client, "x" * 4000)
                list(chat(client, "x" * 4000 + "y", stream=True, stream_options=USAGE))
                client.responses.create(model=MODEL, input="long " * 500)
                list(client.responses.create(model=MODEL, input="long " * 500 + "s", stream=True))
                if run.attempt == 1:
                    assert client.responses.create(model=MODEL, input="fails").status == "failed"
                client.embeddings.create(model=MODEL, input=["one", "two"])
        assert run.cost.spent == provider.spent and run.cost.unpriced == run.cost.unresolved == 0
        assert run.cost.wasted > 0 and run.cost.replayed == 5 and run.cost.saved == run.cost.paid
        assert run.cost.usage.cached_tokens > 0 and run.cost.usage.reasoning_tokens == 50
        settle(url, provider)


def test_the_tier_that_counts_is_the_one_in_the_answer(url: str) -> None:
    with Provider(scripted(Answer(text="x", service_tier="flex"))) as provider:
        client = ac.wrap(OpenAI(base_url=provider.url, api_key=KEY), provider="openai")
        with client, ac.run("r", store=url):
            client.responses.create(model="gpt-5-mini", input="x", service_tier="auto")
    (entry,) = ac.get("r", store=url).ledger
    assert entry.tier == "flex" and entry.model == "gpt-5-mini"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_answer_still_being_made_though_nobody_asked_for_that_is_no_step(url: str, colour: str) -> None:
    body = {"id": "resp_1", "object": "response", "status": "in_progress", "output": [], "model": MODEL}
    own = httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))

    async def ask_async() -> Any:
        bare = AsyncOpenAI(base_url="http://x", api_key=KEY, http_client=httpx2.AsyncClient(transport=own))
        async with ac.wrap(bare) as client, ac.run("r", store=url):
            with pytest.warns(ac.UnrecordedCallWarning, match="background=True") as caught:
                await client.responses.create(model=MODEL, input="x")
            return caught

    def ask() -> Any:
        bare = OpenAI(base_url="http://x", api_key=KEY, http_client=httpx2.Client(transport=own))
        with ac.wrap(bare) as client, ac.run("r", store=url):
            for _ in range(2):  # its slot is free: the second call does not wait for it
                with ac.name("ask", key="k"), pytest.warns(ac.UnrecordedCallWarning, match="background") as caught:
                    client.responses.create(model=MODEL, input="x")
            return caught

    caught = asyncio.run(ask_async()) if colour == "async" else ask()
    assert caught[0].filename == __file__
    assert recorded(url) == [] and set(bills(url)) == {"unresolved"}


def test_a_page_that_is_no_answer_is_no_result(url: str, provider: Provider) -> None:
    """A captive portal's 200: stored, it would come back at every retry."""
    html = httpx2.MockTransport(lambda _: httpx2.Response(200, html="<html>log in</html>"))
    bare = OpenAI(base_url=provider.url, api_key=KEY, http_client=httpx2.Client(transport=html))
    with ac.wrap(bare) as client, ac.run("r", store=url) as run:
        assert "log in" in str(chat(client))
        assert run.cost.unresolved == 1
    with sync_client(provider) as client, ac.run("r", store=url):
        assert chat(client).choices[0].message.content == "hi"
    assert recorded(url) == ["chat"]


def test_what_a_compatible_server_costs_is_unknown_not_zero(url: str, provider: Provider) -> None:
    with ac.wrap(OpenAI(base_url=provider.url, api_key=KEY)) as client, ac.run("r", store=url) as run:
        chat(client)
    assert (run.cost.unpriced, run.cost.paid) == (1, 0)
    assert ac.get("r", store=url).ledger[0].usage is not None


def test_a_model_call_inside_a_paid_step_is_booked_once(url: str, provider: Provider) -> None:
    client = sync_client(provider)
    for _ in range(2):
        with ac.run("r", store=url) as run:
            run.llm(ac.Step("x", prices=PRICES), lambda: chat(client).to_dict())
            assert run.cost.spent == provider.spent
    assert [(entry.slot, entry.bill) for entry in ac.get("r", store=url).ledger] == [
        ("x", "not_billed"),
        ("x/chat", "paid"),
    ]

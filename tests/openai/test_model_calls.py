"""Model calls through the real SDK over real HTTP: the provider's journal says what was paid."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.core.pricing import Price
from agentcheckpoint.store.wire import Wire
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

PRICES = {"demo-large": Price(input="2.5", output="10", cached="0.25")}
HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(8)}"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


def client_of(provider: Provider, **options: Any) -> OpenAI:
    return ac.wrap(OpenAI(base_url=provider.url, api_key="sk-secret", **options), prices=PRICES)


def async_client_of(provider: Provider, **options: Any) -> AsyncOpenAI:
    return ac.wrap(AsyncOpenAI(base_url=provider.url, api_key="sk-secret", **options), prices=PRICES)


class Word(BaseModel):
    word: str


def test_every_kind_of_call_is_replayed_equal_and_paid_once(url: str) -> None:
    brain = scripted("one", '{"word": "two"}', "three", '{"word": "four"}', "five", "", "seven")
    seen: list[list[Any]] = []
    with Provider(brain) as provider, client_of(provider) as client:
        for _ in range(2):
            with ac.run("r", store=url) as run:
                raw = client.chat.completions.with_raw_response.create(model="demo-large", messages=HI)
                parsed = client.chat.completions.parse(model="demo-large", messages=HI, response_format=Word)
                events = list(client.chat.completions.create(model="demo-large", messages=HI, stream=True))
                typed = client.responses.parse(model="demo-large", input="x", text_format=Word)
                with client.responses.stream(model="demo-large", input="y") as stream:
                    final = [event.type for event in stream], stream.get_final_response()
                vector = client.embeddings.create(model="demo-large", input="z")
                options = client.with_options(timeout=9).responses.create(model="demo-large", input="w")
            first = raw.parse()
            seen.append([first, parsed, events, typed, final, vector, options, first._request_id, options._request_id])
        assert seen[0] == seen[1]
        assert parsed.choices[0].message.parsed == Word(word="two")
        assert typed.output_parsed == Word(word="four")
        assert len(provider.journal) == 7
        assert run.cost.replayed == 7
        assert len(provider.requests) == 7


async def test_parallel_async_calls_find_their_own_answers(url: str, provider: Provider) -> None:
    async def ask(client: AsyncOpenAI, number: int) -> str:
        reply = await client.chat.completions.create(
            model="demo-large", messages=[{"role": "user", "content": f"number {number}"}]
        )
        return f"{number}: {reply.choices[0].message.content}"

    async with async_client_of(provider) as client:
        async with ac.run("r", store=url):
            first = await asyncio.gather(*(ask(client, n) for n in range(8)))
        async with ac.run("r", store=url):
            second = await asyncio.gather(*(ask(client, n) for n in reversed(range(8))))
    assert second == first[::-1]
    assert len(provider.journal) == 8


async def test_clients_and_runs_of_different_colours_go_together(url: str, provider: Provider) -> None:
    def inside_a_blocking_run() -> None:
        async def ask() -> None:
            async with async_client_of(provider) as client:
                await client.responses.create(model="demo-large", input="async in sync")

        with ac.run("sync", store=url):
            asyncio.run(ask())

    with client_of(provider) as client:
        for _ in range(2):
            async with ac.run("async", store=url):
                client.responses.create(model="demo-large", input="sync in async")
            await asyncio.to_thread(inside_a_blocking_run)
    assert len(provider.journal) == 2


def test_outside_a_run_a_wrapped_client_sends_what_the_bare_one_sends(provider: Provider) -> None:
    bare = OpenAI(base_url=provider.url, api_key="sk-secret")
    with bare, ac.wrap(bare) as wrapped:
        for client in (bare, wrapped):
            client.chat.completions.create(model="demo-large", messages=HI)
    one, two = provider.requests
    assert one.body == two.body
    assert {k: v for k, v in one.headers.items() if k != "host"} == {
        k: v for k, v in two.headers.items() if k != "host"
    }
    assert isinstance(wrapped, OpenAI) and ac.wrap(wrapped) is wrapped


def test_the_accounts_agree_with_the_provider(url: str, provider: Provider) -> None:
    with client_of(provider) as client, ac.run("r", store=url) as run:
        for number in range(3):
            client.responses.create(model="demo-large", input=f"question {number}")
    assert run.cost.paid == provider.spent > 0
    assert run.cost.unresolved == run.cost.wasted == run.cost.unpriced == 0
    by_id = {entry.id: entry for entry in ac.get("r", store=url).ledger}
    for payment in provider.journal:
        assert by_id[payment.client_request_id].cost == payment.cost
        assert by_id[payment.client_request_id].request_id == payment.request_id


def test_a_compatible_servers_price_is_unknown_not_zero(url: str, provider: Provider) -> None:
    with ac.wrap(OpenAI(base_url=provider.url, api_key="k")) as client, ac.run("r", store=url) as run:
        client.chat.completions.create(model="gpt-5", messages=HI)
    assert run.cost.unpriced == 1
    assert "unknown" in str(run.cost)


def test_each_hidden_attempt_of_the_sdk_is_an_entry(url: str) -> None:
    brain = scripted(
        Answer(status=429, error="slow down", retry_after="0"), Answer(status=500, error="oops"), Answer(text="at last")
    )
    with Provider(brain) as provider, client_of(provider, max_retries=2) as client, ac.run("r", store=url) as run:
        assert client.chat.completions.create(model="demo-large", messages=HI).choices[0].message.content == "at last"
    bills = [entry.bill for entry in ac.get("r", store=url).ledger]
    assert bills == ["not_billed", "unresolved", "paid"]
    assert run.cost.paid == provider.spent


def test_a_call_that_was_paid_and_never_answered_is_unresolved(url: str) -> None:
    with Provider(scripted(Answer(text="gone", drop="after"), "second")) as provider:
        with client_of(provider, max_retries=0) as client:
            with pytest.raises(openai.APIConnectionError), ac.run("r", store=url):
                client.chat.completions.create(model="demo-large", messages=HI)
            with ac.run("r", store=url) as run:
                client.chat.completions.create(model="demo-large", messages=HI)
        assert run.cost.unresolved == 1
        assert len(provider.journal) == 2


def test_a_live_call_takes_two_round_trips_and_a_replayed_one_asks_nobody(
    url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    real = Wire.exchange
    monkeypatch.setattr(Wire, "exchange", lambda self, commands: sent.append(1) or real(self, commands))
    for packets in (2, 1):  # intent and commit; the window of results
        with client_of(provider) as client, ac.run("r", store=url):
            sent.clear()
            client.chat.completions.create(model="demo-large", messages=HI)
            assert len(sent) == packets
    assert len(provider.requests) == 1


@pytest.mark.parametrize("leave", ["break", "close", "with"])
def test_a_stream_left_after_its_last_word_is_a_step(url: str, provider: Provider, leave: str) -> None:
    for _ in range(2):
        with client_of(provider) as client, ac.run("r", store=url) as run:
            stream = client.chat.completions.create(model="demo-large", messages=HI, stream=True)
            for chunk in stream:
                if chunk.choices and chunk.choices[0].finish_reason:
                    break
            if leave == "close":
                stream.close()
            elif leave == "with":
                with stream:
                    pass
            run.step("next", int, 1)
    assert len(provider.journal) == 1


def test_a_step_inside_the_loop_over_a_stream_disturbs_nothing(url: str, provider: Provider) -> None:
    texts = []
    for _ in range(2):
        with client_of(provider) as client, ac.run("r", store=url) as run:
            chunks = []
            for chunk in client.chat.completions.create(
                model="demo-large", messages=HI, stream=True, stream_options={"include_usage": True}
            ):
                run.step("seen", int, len(chunks))
                chunks.append(chunk)
            assert chunks[-1].usage is not None
            texts.append(chunks)
    assert texts[0] == texts[1]
    assert len(provider.journal) == 1


def test_a_stream_left_early_is_no_step_and_unresolved(url: str, provider: Provider) -> None:
    with client_of(provider) as client, ac.run("r", store=url) as run:
        with client.responses.create(model="demo-large", input="x", stream=True) as stream:
            next(iter(stream))
        assert run.cost.unresolved == 1
    assert not [row for row in ac.get("r", store=url).steps if row.outcome == "done"]


def test_a_stream_that_ends_without_its_terminal_event_is_said_to_be_no_step(url: str) -> None:
    with Provider(scripted(Answer(text="a b c d", cut_after=3, cut_clean=True))) as provider:
        with client_of(provider) as client, ac.run("r", store=url) as run:
            with pytest.warns(ac.UnrecordedCallWarning, match="terminal"):
                list(client.responses.create(model="demo-large", input="x", stream=True))
            assert run.cost.unresolved == 1


def test_a_bad_paid_answer_can_be_refused_and_is_then_bought_anew(url: str) -> None:
    with Provider(scripted("no json", '{"word": "good"}')) as provider, client_of(provider) as client:
        for _ in range(2):  # bought, and replayed: the same failure, which says what to do
            with pytest.raises(ValueError) as caught, ac.run("r", store=url):
                client.chat.completions.parse(model="demo-large", messages=HI, response_format=Word)
            (note,) = caught.value.__notes__
            assert "ac.reject('chatcmpl-" in note
        answer_id = note.split("ac.reject('")[1].split("'")[0]
        with ac.run("r", store=url) as run:
            with pytest.raises(ValueError):
                client.chat.completions.parse(model="demo-large", messages=HI, response_format=Word)
            ac.reject(answer_id, "no json")
            reply = client.chat.completions.parse(model="demo-large", messages=HI, response_format=Word)
            assert reply.choices[0].message.parsed == Word(word="good")
        assert run.cost.wasted == provider.journal[0].cost
        assert run.cost.spent == provider.spent


def test_a_200_that_says_failed_is_never_a_result(url: str) -> None:
    with Provider(scripted(Answer(text="x", status=200, error="it broke"), "fine")) as provider:
        with client_of(provider) as client:
            with ac.run("r", store=url):
                assert client.responses.create(model="demo-large", input="x").status == "failed"
            with ac.run("r", store=url) as run:
                assert client.responses.create(model="demo-large", input="x").output_text == "fine"
        assert run.cost.wasted == provider.journal[0].cost


@pytest.mark.parametrize("asynchronous", [False, True])
def test_our_errors_cross_the_sdk_unchanged_after_one_post(url: str, provider: Provider, asynchronous: bool) -> None:
    """The contract with the SDK: it neither wraps nor retries what the recording raises."""
    trouble = ac.StoreUnavailable("the store is away")
    from agentcheckpoint.attempt import after_commit

    def break_the_result(attempt: Any, change: Any) -> None:
        if change.entry.k == "done":
            raise trouble

    async def ask() -> None:
        async with async_client_of(provider, max_retries=5) as client, ac.run("r", store=url):
            await client.chat.completions.create(model="demo-large", messages=HI)

    after_commit.append(break_the_result)
    try:
        with pytest.raises(ac.StoreUnavailable) as caught:
            if asynchronous:
                asyncio.run(ask())
            else:
                with client_of(provider, max_retries=5) as client, ac.run("r", store=url):
                    client.chat.completions.create(model="demo-large", messages=HI)
    finally:
        after_commit.remove(break_the_result)
    assert caught.value is trouble
    assert len(provider.requests) == 1


def test_a_changed_prompt_is_a_mismatch_before_anything_is_sent(url: str, provider: Provider) -> None:
    with client_of(provider) as client:
        with ac.run("r", store=url):
            client.chat.completions.create(model="demo-large", messages=HI)
        with pytest.raises(ac.StepMismatch, match=r"\$0\."), ac.run("r", store=url):
            client.chat.completions.create(model="demo-small", messages=HI)
    assert len(provider.requests) == 1


def test_the_next_call_can_be_named(url: str, provider: Provider) -> None:
    with client_of(provider) as client, ac.run("r", store=url):
        with ac.name("plan", key="a"):
            client.responses.create(model="demo-large", input="x")
        client.responses.create(model="demo-large", input="x")
    assert [row.slot for row in ac.get("r", store=url).steps] == ["plan[a]", "responses"]


def test_the_users_own_http_client_stays_in_force(url: str, provider: Provider) -> None:
    seen: list[str] = []
    own = httpx2.Client(headers={"X-Mine": "1"}, event_hooks={"request": [lambda request: seen.append("hook")]})
    with client_of(provider, http_client=own) as client, ac.run("r", store=url):
        client.chat.completions.create(model="demo-large", messages=HI)
    assert seen == ["hook"]
    assert provider.requests[0].headers["x-mine"] == "1"


def test_no_secret_is_stored(provider: Provider) -> None:
    import fakeredis

    server = fakeredis.FakeServer()
    redis = fakeredis.FakeRedis(server=server)
    with client_of(provider, default_headers={"Cookie": "biscuit"}) as client, ac.run("r", store=redis):
        client.chat.completions.create(model="demo-large", messages=HI)
    readers = {
        b"string": redis.get,
        b"list": lambda k: redis.lrange(k, 0, -1),
        b"hash": redis.hgetall,
        b"zset": lambda k: redis.zrange(k, 0, -1),
    }
    stored = repr([(key, readers[redis.type(key)](key)) for key in redis.keys("*")])
    assert "chatcmpl-" in stored
    for secret in ("sk-secret", "biscuit", "uthorization"):
        assert secret not in stored


def test_other_paid_paths_are_said_to_be_unrecorded(url: str, provider: Provider) -> None:
    with client_of(provider, max_retries=0) as client, ac.run("r", store=url):
        with pytest.warns(ac.UnrecordedCallWarning, match="images"), pytest.raises(openai.NotFoundError):
            client.images.generate(prompt="x")

"""The contract with the SDK: what the recording raises crosses it unchanged, after one request or none."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from asking import MODEL, async_client, bills, chat, chat_async, sync_client, user
from faults.servers import until
from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.store import wire
from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.provider import Provider


class Stop(BaseException):
    """Unwinds, and is nobody's error."""


ERRORS: list[BaseException] = [
    ac.StoreUnavailable("away"),
    ac.StoreRefused("read-only"),
    ac.CommitUnknown("who knows"),
    ac.LeaseLost("another's"),
    ac.CheckpointsLost("gone"),
    ac.StepMismatch("other inputs"),
    ac.BudgetExceeded("too much"),
    ac.Suspended(),
    ac.Interrupted(),
    KeyboardInterrupt(),
    SystemExit(3),
    Stop(),
]
ids = lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value)  # noqa: E731
EACH_ERROR = pytest.mark.parametrize("error", [*ERRORS, asyncio.CancelledError()], ids=ids)
KINDS = ("chat", "chat stream", "responses stream", "embeddings", "raw", "parse")


@contextmanager
def raising(error: BaseException, when: str) -> Iterator[None]:
    """The error is raised where a commit of that kind has been applied."""

    def strike(_: object, change: Any) -> None:
        if change.entry.k == when:
            raise error

    after_commit.append(strike)
    try:
        yield
    finally:
        after_commit.remove(strike)


def run_sync(client: OpenAI, kind: str) -> None:
    if kind == "chat stream":
        list(chat(client, stream=True))
    elif kind == "responses stream":
        list(client.responses.create(model=MODEL, input="x", stream=True))
    elif kind == "embeddings":
        client.embeddings.create(model=MODEL, input="x")
    elif kind == "raw":
        client.chat.completions.with_raw_response.create(model=MODEL, messages=user("x"))
    elif kind == "parse":
        client.responses.parse(model=MODEL, input="x")
    else:
        chat(client)


async def run_async(client: AsyncOpenAI, kind: str) -> None:
    if kind == "chat stream":
        async for _ in await chat_async(client, stream=True):
            pass
    elif kind == "responses stream":
        async for _ in await client.responses.create(model=MODEL, input="x", stream=True):
            pass
    elif kind == "embeddings":
        await client.embeddings.create(model=MODEL, input="x")
    elif kind == "raw":
        await client.chat.completions.with_raw_response.create(model=MODEL, messages=user("x"))
    elif kind == "parse":
        await client.responses.parse(model=MODEL, input="x")
    else:
        await chat_async(client)


def call(provider: Provider, url: str, kind: str, colour: str, **options: Any) -> None:
    async def on_a_loop() -> None:
        async with async_client(provider, max_retries=5, **options) as client, ac.run("r", store=url):
            await run_async(client, kind)

    if colour == "async":
        asyncio.run(on_a_loop())
        return
    with sync_client(provider, max_retries=5, **options) as client, ac.run("r", store=url):
        run_sync(client, kind)


@EACH_ERROR
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(("when", "posts"), [("intent", 0), ("done", 1)])
def test_what_a_commit_raises_crosses_the_sdk(
    url: str, provider: Provider, error: BaseException, colour: str, when: str, posts: int
) -> None:
    kind = "chat stream" if posts and isinstance(error, ac.StoreError) else "chat"
    with raising(error, when), pytest.raises(type(error)) as caught:
        call(provider, url, kind, colour)
    if not (colour == "async" and isinstance(error, asyncio.CancelledError)):  # a task raises a new one
        assert caught.value is error
    assert len(provider.requests) == len(provider.journal) == posts


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("when", "posts"), [("intent", 0), ("done", 1)])
def test_every_kind_of_call_lets_them_cross(
    url: str, provider: Provider, kind: str, colour: str, when: str, posts: int
) -> None:
    error = ac.StoreUnavailable("away")
    with raising(error, when), pytest.raises(ac.StoreUnavailable) as caught:
        call(provider, url, kind, colour)
    assert caught.value is error
    assert len(provider.requests) == posts


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ac.Suspended(), Stop(), ValueError("of the user's")], ids=ids)
def test_what_is_raised_while_the_request_is_under_way_leaves_it_unresolved(
    url: str, provider: Provider, error: BaseException, colour: str
) -> None:
    def strike(response: httpx2.Response) -> None:
        raise error

    async def strike_async(response: httpx2.Response) -> None:
        raise error

    hooks = {"response": [strike_async if colour == "async" else strike]}
    own = (httpx2.AsyncClient if colour == "async" else httpx2.Client)(event_hooks=hooks)
    with pytest.raises(type(error)) as caught:
        call(provider, url, "chat", colour, http_client=own)
    assert caught.value is error
    assert bills(url) == ["unresolved"] and len(provider.journal) == 1
    assert not [row for row in ac.get("r", store=url).steps if row.outcome == "done"]
    call(provider, url, "chat", colour)
    assert bills(url) == ["unresolved", "paid"]


def test_an_interrupt_during_a_request_ends_it_at_once(url: str) -> None:
    """A real signal, in a real wait for an answer."""
    main = threading.get_ident()

    def press() -> None:
        until(lambda: len(provider.journal) == 1, "the provider is paid")
        signal.pthread_kill(main, signal.SIGINT)

    def brain(_: Request) -> Answer:
        threading.Thread(target=press).start()
        return Answer(text="late", delay=600)

    with Provider(brain) as provider, pytest.raises(KeyboardInterrupt):
        call(provider, url, "chat", "sync")
    assert bills(url) == ["unresolved"] and ac.get("r", store=url).state == "interrupted"
    assert len(provider.journal) == 1


def test_a_store_that_goes_away_stops_the_call_before_it_pays(
    url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ac.StoreError), sync_client(provider) as client, ac.run("r", store=url):
        monkeypatch.setattr("agentcheckpoint.store.patience.PAUSES", (0.0, 0.0))
        monkeypatch.setattr(wire.Wire, "exchange", _broken)
        chat(client)
    assert not provider.requests


def _broken(*_: object) -> Any:
    raise wire.NotSent("no connection")


def test_the_two_methods_that_are_overridden_are_what_they_were() -> None:
    """An SDK that renames them, or takes another way, must not be passed over in silence."""
    for kind in (OpenAI, AsyncOpenAI):
        request, send = (inspect.signature(getattr(kind, name)) for name in ("request", "_send_request"))
        assert list(request.parameters)[:3] == ["self", "cast_to", "options"]
        assert list(send.parameters) == ["self", "request", "stream", "kwargs"]
        source = inspect.getsource(openai._base_client.SyncAPIClient.request)
        assert "self._send_request(" in source and "except OpenAIError" in source
        assert not issubclass(ac.AgentCheckpointError, (openai.OpenAIError, httpx2.RequestError, OSError))


RESOURCES: list[Callable[[OpenAI], Any]] = [chat, lambda c: c.responses.create(model=MODEL, input="x")]


@pytest.mark.parametrize("ask", RESOURCES, ids=["chat", "responses"])
def test_one_call_of_the_sdks_is_one_request_of_ours(
    url: str, provider: Provider, ask: Callable[[OpenAI], Any]
) -> None:
    sent: list[str] = []
    with sync_client(provider) as client:
        inner = type(client)._send_request
        with pytest.MonkeyPatch.context() as patch, ac.run("r", store=url):
            patch.setattr(type(client), "_send_request", lambda *a, **k: sent.append("x") or inner(*a, **k))
            ask(client)
    assert len(sent) == len(provider.requests) == 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_goes_wrong_after_a_commit_does_not_undo_it(url: str, provider: Provider, colour: str) -> None:
    """Such as a warning that is made an error: the answer is recorded, and paid, and waits for the same call."""
    with raising(UserWarning("by the way"), "done"), pytest.raises(UserWarning, match="by the way"):
        call(provider, url, "chat", colour)
    assert bills(url) == ["paid"]
    call(provider, url, "chat", colour)
    assert len(provider.requests) == 1

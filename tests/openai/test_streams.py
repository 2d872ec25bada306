"""Streams of a blocking client: live, committed before their last event is handed on, and replayed event by event."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx2
import openai
import pytest
from asking import MODEL, bills, chat, is_last_word, recorded, sync_client
from gates import Gate, Stalled, chunk
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.attempt import after_commit
from agentcheckpoint.openai import streams
from agentcheckpoint.testing.brain import Answer, scripted
from agentcheckpoint.testing.provider import Provider

USAGE: Any = {"include_usage": True}
WORDS = "one two three four five"


def ask(client: OpenAI, kind: str, **options: Any) -> Iterator[Any]:
    if kind == "chat":
        return iter(chat(client, stream=True, **options))
    return iter(client.responses.create(model=MODEL, input="hi", stream=True, **options))


@pytest.fixture
def done_seen() -> Iterator[list[str]]:
    """The slots whose commit was applied, as it happens."""
    seen: list[str] = []

    def note(_: object, change: Any) -> None:
        if change.entry.k == "done":
            seen.append(change.entry.slot)

    after_commit.append(note)
    yield seen
    after_commit.remove(note)


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_events_are_handed_on_before_the_next_ones_are_read(url: str, provider: Provider, kind: str) -> None:
    gate = Gate()
    with sync_client(provider, http_client=httpx2.Client(transport=gate)) as client, ac.run("r", store=url):
        events = ask(client, kind)
        next(events)
        gate.open.set()
        assert len(list(events)) >= 2


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_the_end_is_handed_on_only_after_the_commit(
    url: str, provider: Provider, kind: str, done_seen: list[str]
) -> None:
    last = "response.completed" if kind == "responses" else None
    with sync_client(provider) as client, ac.run("r", store=url):
        events = ask(client, kind, **({"stream_options": USAGE} if kind == "chat" else {}))
        for event in events:
            assert bool(done_seen) == (getattr(event, "type", "") == last)
        assert done_seen == [kind], "the loop over a chat ends with [DONE]"


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_a_commit_that_fails_keeps_the_end_back(url: str, provider: Provider, kind: str) -> None:
    def fail(_: object, change: Any) -> None:
        if change.entry.k == "done":
            raise ac.StoreUnavailable("away")

    got = []
    after_commit.append(fail)
    try:
        with pytest.raises(ac.StoreUnavailable, match="away"), sync_client(provider) as client:
            with ac.run("r", store=url):
                got.extend(event for event in ask(client, kind))
                got.append("the end")
    finally:
        after_commit.remove(fail)
    assert got and "the end" not in got
    assert not [event for event in got if getattr(event, "type", "") == "response.completed"]
    assert len(provider.requests) == 1


def test_a_stream_stays_live_though_its_server_names_it_otherwise(url: str, provider: Provider) -> None:
    """Some compatible servers stream as text/plain."""

    def rename(response: httpx2.Response) -> None:
        response.headers["content-type"] = "text/plain; charset=utf-8"

    chunks = []
    for _ in range(2):
        gate = Gate()
        own = httpx2.Client(transport=gate, event_hooks={"response": [rename]})
        with sync_client(provider, http_client=own) as client, ac.run("r", store=url):
            events = ask(client, "chat")
            chunks.append([next(events)])
            gate.open.set()
            chunks[-1].extend(events)
    assert len(provider.requests) == 1
    assert chunks[0] == chunks[1] and is_last_word(chunks[0][-1])


# -- left -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [True, False], ids=["held", "forgotten"])
@pytest.mark.parametrize("then", ["close", "with", "next step", "next call", "run's end"])
@pytest.mark.parametrize("usage", [True, False], ids=["usage", "no usage"])
def test_a_chat_stream_left_after_its_last_word_is_a_step(
    url: str, provider: Provider, then: str, held: bool, usage: bool
) -> None:
    for _ in range(2):
        with sync_client(provider) as client, ac.run("r", store=url) as run:
            stream = chat(client, stream=True, **({"stream_options": USAGE} if usage else {}))
            for chunk in stream:
                if is_last_word(chunk):
                    break
            if then == "close":
                stream.close()
            elif then == "with":
                with stream:
                    pass
            if not held:
                del stream
                gc.collect()
            if then == "next step":
                run.step("next", int, 1)
            elif then == "next call":
                client.embeddings.create(model=MODEL, input="x")
    assert "chat" in recorded(url)
    assert len(provider.requests) == 1 + (then == "next call")
    assert (run.cost.paid, run.cost.unpriced) == (provider.spent, 0)


def test_one_who_reads_on_after_a_step_gets_what_was_read_for_him(url: str, provider: Provider) -> None:
    for _ in range(2):
        with sync_client(provider) as client, ac.run("r", store=url) as run:
            got = []
            for chunk in chat(client, stream=True, stream_options=USAGE):
                got.append(chunk)
                run.step("seen", int, len(got))
            assert got[-1].usage is not None
    assert len(provider.journal) == 1 and run.cost.paid == provider.spent


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("leave", ["close", "forget", "keep", "raise"])
def test_a_stream_left_earlier_is_no_step_and_its_money_unresolved(url: str, kind: str, leave: str) -> None:
    with Provider(scripted(WORDS, WORDS)) as provider, sync_client(provider) as client:
        with ac.run("r", store=url) as run:
            stream = chat(client, stream=True) if kind == "chat" else ask(client, kind)
            try:
                for n, _ in enumerate(stream):
                    if n == 2 and leave == "raise":
                        raise ValueError
                    if n == 2:
                        break
            except ValueError:
                pass
            if leave == "close" and kind == "chat":
                stream.close()
            elif leave != "keep":
                del stream
            assert run.cost.unresolved == 1
        assert recorded(url) == [] and bills(url) == ["unresolved"]
        with ac.run("r", store=url) as run:
            list(ask(client, kind))
        fetched = kind == "responses"
        assert bills(url) == (["paid"] if fetched else ["unresolved", "paid"])
        assert len(provider.journal) == (1 if fetched else 2)


def test_the_same_key_can_be_called_again_after_its_stream_was_left(url: str) -> None:
    """The stream is still held, unread: the call must not wait for it."""
    with Provider(scripted(WORDS, WORDS)) as provider, sync_client(provider) as client, ac.run("r", store=url) as run:
        with ac.name("ask", key="k"):
            left = chat(client, stream=True)
        next(left)
        with ac.name("ask", key="k"):
            assert len(list(chat(client, stream=True))) == 7
        assert run.cost.unresolved == 1
        left.close()
    assert recorded(url) == ["ask[k]"]


def test_a_server_that_stalls_after_the_last_word_is_waited_for_only_so_long(
    url: str, monkeypatch: pytest.MonkeyPatch, done_seen: list[str]
) -> None:
    monkeypatch.setattr(streams, "DRAIN", 0.1)
    with Stalled(chunk("x") + chunk(None, "stop"), b"data: [DONE]\n\n") as server, ac.run("r", store=url) as run:
        client = ac.wrap(OpenAI(base_url=server.url, api_key="k", max_retries=0))
        events = iter(chat(client, stream=True))
        assert [is_last_word(next(events)) for _ in range(2)] == [False, True]
        run.step("next", int, 1)
        assert done_seen == ["chat", "next"]
        server.go_on.set()
        assert list(events) == [], "one who reads on waits for the rest as ever"


def test_closing_ends_the_read_that_a_stalled_server_keeps_waiting(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "DRAIN", 0.1)
    with Stalled(chunk("x") + chunk(None, "stop"), b"") as server, ac.run("r", store=url) as run:
        client = ac.wrap(OpenAI(base_url=server.url, api_key="k", max_retries=0))
        stream = chat(client, stream=True)
        assert any(is_last_word(event) for event in islice(stream, 2))
        run.step("next", int, 1)
        (waiting,) = (thread for thread in threading.enumerate() if thread.name == "agentcheckpoint-drain")
        stream.close()
        assert server.hung_up.wait(60)
        waiting.join(60)
        assert not waiting.is_alive()
    assert recorded(url) == ["chat", "next"]


# -- cut --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "broken"])
@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_a_stream_that_is_cut_is_no_step(url: str, kind: str, clean: bool) -> None:
    with Provider(scripted(Answer(text=WORDS, cut_after=4, cut_clean=clean), WORDS)) as provider:
        with sync_client(provider) as client:
            with ac.run("r", store=url) as run:
                if clean:
                    with pytest.warns(ac.UnrecordedCallWarning, match="terminal") as caught:
                        assert len(list(ask(client, kind))) == 4
                    assert caught[0].filename == __file__
                else:
                    with pytest.raises(openai.APIConnectionError):
                        list(ask(client, kind))
                assert run.cost.unresolved == 1
            assert recorded(url) == []
            with ac.run("r", store=url):
                list(ask(client, kind))
        assert recorded(url) == [kind] and len(provider.journal) == (1 if kind == "responses" else 2)


def test_a_chat_cut_after_its_last_word_is_whole(url: str) -> None:
    """Not every server sends [DONE]."""
    with Provider(scripted(Answer(text="a b", cut_after=4, cut_clean=True))) as provider:
        for _ in range(2):
            with sync_client(provider) as client, ac.run("r", store=url):
                assert is_last_word(list(ask(client, "chat"))[-1])
        assert len(provider.requests) == 1


def test_an_error_in_a_chat_stream_is_raised_and_recorded_as_a_failed_attempt(url: str) -> None:
    with Provider(scripted(Answer(text="a b", error="it broke"), "fine")) as provider:
        with sync_client(provider) as client:
            with ac.run("r", store=url) as run, pytest.raises(openai.APIError, match="it broke"):
                list(ask(client, "chat"))
            assert run.cost.unresolved == 1
            (failed,) = (entry for entry in ac.get("r", store=url).entries if entry.k == "failed")
            assert "it broke" in failed.error.message
            with ac.run("r", store=url):
                list(ask(client, "chat"))
        assert recorded(url) == ["chat"]


def test_a_responses_stream_that_failed_is_wasted_and_no_result(url: str) -> None:
    with Provider(scripted(Answer(text="a b", error="it broke"), "fine")) as provider:
        with sync_client(provider) as client:
            with ac.run("r", store=url):
                assert [event.type for event in ask(client, "responses")][-1] == "response.failed"
            with ac.run("r", store=url) as run:
                assert [event.type for event in ask(client, "responses")][-1] == "response.completed"
        assert bills(url) == ["wasted", "paid"]
        assert run.cost.spent == provider.spent and run.cost.wasted == provider.journal[0].cost

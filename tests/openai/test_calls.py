"""Every kind of call that the SDK has for a step: replayed as the very objects it gave, with no request to pay for."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asking import MODEL, chat, recorded, sync_client, user
from openai import OpenAI
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.store.wire import Wire
from agentcheckpoint.testing.brain import Answer, Request, ToolCall
from agentcheckpoint.testing.provider import Provider

TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": False}}
FLAT_TOOL: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": False}
USAGE: Any = {"include_usage": True}


class Word(BaseModel):
    word: str


def brain(request: Request) -> Answer:
    if request.tools:
        return Answer(tool_calls=(ToolCall("add", {"a": 1}), ToolCall("add", {"a": 2})))
    wants_json = "response_format" in request.body or "text" in request.body
    return Answer(text='{"word": "yes"}' if wants_json else f"a few words {secrets.token_hex(4)}", reasoning_tokens=7)


def _raw(client: OpenAI) -> Any:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=user("raw"))
    return raw.parse(), raw.request_id, raw.status_code, raw.content, raw.http_request.method


def _streaming_response(client: OpenAI) -> Any:
    with client.responses.with_streaming_response.create(model=MODEL, input="x") as reply:
        return reply.parse(), reply.request_id


def _streamed_lines(client: OpenAI) -> Any:
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=user("lines"), stream=True
    ) as reply:
        return list(reply.iter_lines())


def _raw_stream(client: OpenAI) -> Any:
    raw = client.responses.with_raw_response.create(model=MODEL, input="x", stream=True)
    return list(raw.parse()), raw.request_id


def _chat_stream(client: OpenAI) -> Any:
    with client.chat.completions.stream(model=MODEL, messages=user("s"), response_format=Word) as stream:
        return [event.type for event in stream], stream.get_final_completion()


def _responses_stream(client: OpenAI) -> Any:
    with client.responses.stream(model=MODEL, input="s", text_format=Word) as stream:
        return list(stream), stream.get_final_response()


KINDS: dict[str, Callable[[OpenAI], Any]] = {
    "chat.create": chat,
    "chat.create(tools)": lambda c: chat(c, tools=[TOOL]),
    "chat.create(stream)": lambda c: list(chat(c, stream=True)),
    "chat.create(stream, usage)": lambda c: list(chat(c, stream=True, stream_options=USAGE)),
    "chat.create(stream, tools)": lambda c: list(chat(c, stream=True, tools=[TOOL])),
    "chat.parse": lambda c: c.chat.completions.parse(model=MODEL, messages=user("p"), response_format=Word),
    "chat.stream": _chat_stream,
    "responses.create": lambda c: c.responses.create(model=MODEL, input="q", extra_body={"seed": 3}),
    "responses.create(tools)": lambda c: c.responses.create(model=MODEL, input="q", tools=[FLAT_TOOL]),
    "responses.create(stream)": lambda c: list(c.responses.create(model=MODEL, input="q", stream=True)),
    "responses.parse": lambda c: c.responses.parse(model=MODEL, input="q", text_format=Word),
    "responses.stream": _responses_stream,
    "embeddings.create": lambda c: c.embeddings.create(model=MODEL, input=["one", "two"]),
    "with_raw_response": _raw,
    "with_streaming_response": _streaming_response,
    "with_streaming_response(stream)": _streamed_lines,
    "with_raw_response(stream)": _raw_stream,
    "with_options": lambda c: chat(c.with_options(timeout=9, max_retries=0)),
    "client.with_raw_response": lambda c: c.with_raw_response.responses.create(model=MODEL, input="q").parse(),
    "beta": lambda c: c.beta.chat.completions.parse(model=MODEL, messages=user("p"), response_format=Word),
    "beta.responses": lambda c: c.beta.responses.create(model=MODEL, input="q"),
    "post": lambda c: c.post("/chat/completions", cast_to=object, body={"model": MODEL, "messages": user("x")}),
    "post(URL)": lambda c: c.post(f"{c.base_url}embeddings?a=b", cast_to=object, body={"model": MODEL, "input": "x"}),
}

"""A chat stream says what it used only if it is asked to."""


def request_id(answer: Any) -> object:
    return getattr(answer, "_request_id", None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_replayed_call_gives_the_same_objects_for_nothing(url: str, kind: str) -> None:
    answers = []
    with Provider(brain) as provider, sync_client(provider) as client:
        for _ in range(2):
            with ac.run("r", store=url) as run:
                answers.append(KINDS[kind](client))
        assert len(provider.requests) == len(provider.journal) == 1
    assert answers[0] == answers[1]
    assert type(answers[0]) is type(answers[1]) and request_id(answers[0]) == request_id(answers[1])
    assert (run.cost.replayed, run.cost.saved_unpriced, run.cost.saved) == (1, 0, provider.spent)
    if isinstance(answers[0], BaseModel):
        assert str(request_id(answers[0])).startswith("req_")


def test_a_conversation_with_the_sdks_own_objects_is_replayed(url: str) -> None:
    """The usual loop of an agent: the assistant's message goes back as it came."""
    with Provider(brain) as provider, sync_client(provider) as client:
        for _ in range(2):
            with ac.run("r", store=url):
                messages: list[Any] = user("add")
                first = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
                said = first.choices[0].message
                results = ({"role": "tool", "tool_call_id": c.id, "content": "3"} for c in said.tool_calls or ())
                client.chat.completions.create(model=MODEL, messages=[*messages, said, *results])
                reply = client.responses.create(model=MODEL, input="add", tools=[FLAT_TOOL])
                client.responses.create(
                    model=MODEL, input=[*map(as_input, reply.output), *map(output_of, calls(reply))]
                )
        assert len(provider.requests) == len(provider.journal) == 4


def as_input(item: Any) -> Any:
    return item.to_dict()


def calls(reply: Any) -> list[Any]:
    return [item for item in reply.output if item.type == "function_call"]


def output_of(call: Any) -> Any:
    return {"type": "function_call_output", "call_id": call.call_id, "output": "3"}


def test_threads_find_their_own_answers_though_they_come_in_another_order(url: str, provider: Provider) -> None:
    def asked(client: OpenAI, order: list[int]) -> dict[int, str]:
        with ac.run("r", store=url) as run, ThreadPoolExecutor(6) as pool:
            ask = run.bind(lambda n: chat(client, f"number {n}").choices[0].message.content)
            return dict(zip(order, pool.map(ask, order), strict=True))

    with sync_client(provider) as client:
        assert asked(client, list(range(24))) == asked(client, list(reversed(range(24))))
    assert len(provider.journal) == len(provider.requests) == 24


def test_equal_calls_side_by_side_are_as_many_steps(url: str, provider: Provider) -> None:
    ids = []
    for _ in range(2):
        with sync_client(provider) as client, ac.run("r", store=url) as run, ThreadPoolExecutor(4) as pool:
            ids.append(sorted(pool.map(run.bind(lambda _: chat(client).id), range(8))))
    assert ids[0] == ids[1] and len(set(ids[0])) == 8
    assert len(provider.journal) == 8


def test_a_thread_without_the_run_is_warned_and_pays_as_bare(url: str, provider: Provider) -> None:
    warned: list[pytest.WarningsRecorder] = []

    def ask() -> None:
        with pytest.warns(ac.NoActiveRunWarning, match="'r' is open") as caught:
            chat(client)
        warned.append(caught)

    with sync_client(provider) as client, ac.run("r", store=url) as run:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert run.cost.attempts == 0
    assert warned[0][0].filename.endswith("asking.py"), "the warning names the line of the call"
    assert "x-client-request-id" not in provider.requests[0].headers


def test_a_call_inside_a_step_is_its_child_and_outlives_its_failure(url: str, provider: Provider) -> None:
    def think(fail: bool) -> str:
        reply = chat(client).choices[0].message.content
        if fail:
            raise ValueError("after the answer")
        return str(reply)

    with sync_client(provider) as client:
        with pytest.raises(ValueError), ac.run("r", store=url) as run:
            run.step(ac.Step("think", ignore=["fail"]), think, True)
        with ac.run("r", store=url) as run:
            assert run.step(ac.Step("think", ignore=["fail"]), think, False) == "hi"
    assert sorted(recorded(url)) == ["think", "think/chat"]
    assert len(provider.journal) == 1


def test_two_packets_for_a_live_call_and_none_for_a_replayed_one_in_the_window(
    url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    real = Wire.exchange
    monkeypatch.setattr(Wire, "exchange", lambda wire, commands: sent.append(commands) or real(wire, commands))
    counts = []
    for _ in range(2):
        with sync_client(provider) as client, ac.run("r", store=url):
            sent.clear()
            chat(client, "one")
            counts.append(len(sent))
            list(chat(client, "two", stream=True))
            client.embeddings.create(model=MODEL, input="three")
            counts.append(len(sent))
    assert counts == [2, 6, 1, 1], "intent and commit; then the one packet that fetches what follows"

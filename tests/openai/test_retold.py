"""A finished response told as a stream: the SDK reads it without complaint, and builds the same response from it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from asking import KEY, MODEL
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from agentcheckpoint.openai.retold import events_of
from agentcheckpoint.openai.sse import Passing
from agentcheckpoint.openai.usage import read_stream

USAGE = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}
CITED = {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://a.example", "title": "A"}
ITEMS: dict[str, Any] = {
    "reasoning": {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "First, think."}],
        "content": [{"type": "reasoning_text", "text": "hm"}],
        "encrypted_content": "gAAA",
        "status": "completed",
    },
    "bare reasoning": {"id": "rs_2", "type": "reasoning", "summary": []},
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "Hello there", "annotations": [CITED], "logprobs": []},
            {"type": "refusal", "refusal": "not that"},
        ],
    },
    "silent message": {"id": "msg_2", "type": "message", "role": "assistant", "status": "completed", "content": []},
    "function call": {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": '{"x": 1}',
        "status": "completed",
    },
    "custom call": {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "raw"},
    "web search": {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "redis"},
    },
    "of a kind to come": {"id": "zz_1", "type": "telepathy_call", "thought": {"n": [1, 2]}},
}


def response(*items: Any, status: str = "completed") -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "completed_at": 2 if status == "completed" else None,
        "status": status,
        "model": MODEL,
        "output": list(items),
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": USAGE,
        "service_tier": "default",
    }


def read(body: bytes) -> OpenAI:
    """A client whose every answer is this stream."""
    own = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=body, headers={"content-type": "text/event-stream"})
    )
    return OpenAI(base_url="http://x", api_key=KEY, http_client=httpx2.Client(transport=own))


def helper_says(body: bytes) -> tuple[list[Any], Any]:
    with read(body) as client, client.responses.stream(model=MODEL, input="x") as stream:
        events = list(stream)
        final = stream._state._completed_response
    return events, final


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("items", [[name] for name in ITEMS] + [list(ITEMS), []], ids=str)
def test_the_sdk_accumulates_the_response_it_was_told_of(items: list[str]) -> None:
    whole = response(*(ITEMS[name] for name in items))
    events, final = helper_says(events_of(whole))
    assert final is not None
    assert final.output_text == "".join("Hello there" for name in items if name == "message")
    drop = {"output": {"__all__": {"content": {"__all__": {"parsed"}}, "parsed_arguments": True}}}
    assert json.loads(final.model_dump_json(exclude=drop, exclude_unset=True, warnings=False)) == whole
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_the_deltas_add_up_and_the_end_is_the_response(status: str) -> None:
    whole = response(*ITEMS.values(), status=status)
    with read(events_of(whole)) as client:
        events = list(client.responses.create(model=MODEL, input="x", stream=True))
    said = {
        kind: "".join(event.delta for event in events if event.type == f"response.{kind}.delta")
        for kind in ("output_text", "refusal", "reasoning_text", "reasoning_summary_text", "function_call_arguments")
    }
    assert said == {
        "output_text": "Hello there",
        "refusal": "not that",
        "reasoning_text": "hm",
        "reasoning_summary_text": "First, think.",
        "function_call_arguments": '{"x": 1}',
    }
    assert events[-1].type == f"response.{status}"
    assert json.loads(events[-1].response.model_dump_json(exclude_unset=True, warnings=False)) == whole
    assert events[0].response.output == [] and events[0].response.usage is None


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_what_we_read_of_it_is_what_its_answer_says(status: str) -> None:
    passing = Passing("responses")
    handed = passing.feed(events_of(response(*ITEMS.values(), status=status)))
    said = read_stream("responses", passing.events)
    assert [last for _, last in handed] == [False] * (len(handed) - 1) + [True]
    assert said.response_id == "resp_1" and said.usage is not None and said.usage.output_tokens == 7
    assert said.failed is None and not said.unfinished


TEXTS = st.text(max_size=30)


@given(st.lists(st.one_of(TEXTS.map(lambda t: ("text", t)), TEXTS.map(lambda t: ("call", t))), max_size=6))
def test_any_text_comes_through(said: list[tuple[str, str]]) -> None:
    items = [
        {**ITEMS["function call"], "id": f"fc_{n}", "call_id": f"call_{n}", "arguments": text}
        if kind == "call"
        else {
            **ITEMS["message"],
            "id": f"msg_{n}",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
        }
        for n, (kind, text) in enumerate(said)
    ]
    passing = Passing("responses")
    passing.feed(events_of(response(*items)))
    assert passing.ended and passing.events[-1]["response"] == response(*items)
    deltas = [event["delta"] for event in passing.events if str(event["type"]).endswith(".delta")]
    assert deltas == [text for _, text in said]

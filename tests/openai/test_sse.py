"""The splitting of a stream into events, whatever the chunks; and what a stream says of its own end."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcheckpoint.openai.sse import Passing, first_id
from agentcheckpoint.openai.usage import read_stream


def event(body: Any, end: str = "\n\n") -> bytes:
    return f"data: {json.dumps(body)}{end}".encode()


def finish(reason: object, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"index": index, "delta": {}, "finish_reason": reason}], **more}


@given(
    texts=st.lists(st.text(), max_size=5),
    end=st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"]),
    cuts=st.lists(st.integers(0, 200), max_size=20),
)
def test_the_events_are_the_same_however_the_bytes_are_cut(texts: list[str], end: str, cuts: list[int]) -> None:
    events = [event({"choices": [], "text": text}, end) for text in texts] + [f"data: [DONE]{end}".encode()]
    body = b"".join(events)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    passing = Passing("chat")
    out = [part for a, b in pairwise(places) for part in passing.feed(body[a:b])]
    assert out == [(one, one is events[-1]) for one in events]
    assert passing.body == body and not passing.rest() and passing.ended
    assert [one["text"] for one in passing.events] == texts


@pytest.mark.parametrize(
    ("chunks", "answered", "ended"),
    [
        ([finish(None)], False, False),
        ([finish(None), finish("stop")], True, False),
        ([finish("")], False, False),  # some servers send an empty reason until the end
        ([finish(None, 0), finish(None, 1), finish("stop", 0)], False, False),
        ([finish("stop", 0), finish(None, 1), finish("stop", 1)], True, False),
        ([finish("tool_calls"), {"choices": [], "usage": {}}], True, False),
        ([{"error": {"message": "no"}}], True, True),
        ([[], 7, None, "x", {"choices": None}, {"choices": [None, 3]}], False, False),
    ],
)
def test_when_a_chat_has_said_its_last_word(chunks: list[Any], answered: bool, ended: bool) -> None:
    passing = Passing("chat")
    for one in chunks:
        passing.feed(event(one))
    assert (passing.answered, passing.ended) == (answered, ended)
    said = read_stream("chat", passing.events)
    assert (said.failed is None and not said.unfinished) == (answered and not ended)


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed", "cancelled"])
def test_when_a_response_has(kind: str) -> None:
    passing = Passing("responses")
    for one in ("created", "in_progress", "output_text.done", "output_item.done"):
        assert passing.feed(event({"type": f"response.{one}", "response": {"id": "resp_1"}}))[0][1] is False
    assert not passing.answered
    (last,) = passing.feed(event({"type": f"response.{kind}", "response": {"id": "resp_1", "status": kind}}))
    assert last[1] and passing.answered
    assert (read_stream("responses", passing.events).failed is None) == (kind in ("completed", "incomplete"))


def test_what_is_no_whole_event_is_no_part_of_the_body_until_the_end() -> None:
    passing = Passing("chat")
    passing.feed(event(finish("stop")) + b"data: {")
    assert passing.body == event(finish("stop"))
    assert passing.rest() == [(b"data: {", False)] and passing.body.endswith(b"data: {")


@pytest.mark.parametrize(
    ("endpoint", "events", "known_as"),
    [
        ("chat", [{"id": ""}, {"id": None}, {"id": "chatcmpl-1"}, {"id": "other"}], "chatcmpl-1"),
        ("responses", [{"type": "response.created", "response": {"id": "resp_1"}}], "resp_1"),
        ("responses", [{"id": "no", "response": None}, {"response": {"id": 7}}], None),
        ("chat", [], None),
    ],
)
def test_the_id_of_a_streamed_answer(endpoint: Any, events: list[Any], known_as: str | None) -> None:
    body = b": hello\n\n" + b"".join(map(event, events)) + b"data: [DONE]\n\n"
    assert first_id(endpoint, body) == known_as

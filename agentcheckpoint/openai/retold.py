"""A finished response told as the stream it might have been, where the server's own events are no longer to be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from pydantic_core import to_json

JSON: TypeAlias = Mapping[str, Any]

_AT_THE_END = ("usage", "error", "incomplete_details", "completed_at")
"""Fields of a response that have no value before it is finished."""
_SPOKEN = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
}
"""What a call of a tool says: its field, and how its events are named."""


def events_of(response: JSON) -> bytes:
    """The response as server-sent events, numbered from 0: each text in one piece, the response itself at the end.

    What an SDK builds from these events equals the response.

    Args:
        response: the JSON of a response that is completed or incomplete.
    """
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), to_json({**event, "sequence_number": number}))
        for number, event in enumerate(_events(response))
    )


def _events(response: JSON) -> Iterator[JSON]:
    blank = {name: None for name in _AT_THE_END if name in response}
    begun: JSON = {**response, **blank, "status": "in_progress", "output": []}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response.get("output") or ()):
        yield from _item(item, index)
    yield {"type": f"response.{response['status']}", "response": response}


def _item(item: JSON, index: int) -> Iterator[JSON]:
    where = {"output_index": index, "item_id": item.get("id")}
    kind = item.get("type")
    field, event = _SPOKEN.get(str(kind), ("", ""))
    opened = {**item, "status": "in_progress"} if "status" in item else dict(item)
    opened.update({name: [] for name in ("content", "summary") if item.get(name)})
    if field in item:
        opened[field] = ""
    yield {"type": "response.output_item.added", "output_index": index, "item": opened}
    for number, part in enumerate(item.get("summary") or ()):
        yield from _summary(part, {**where, "summary_index": number})
    for number, part in enumerate(item.get("content") or ()):
        yield from _part(part, {**where, "content_index": number})
    if field in item:
        yield {"type": f"response.{event}.delta", **where, "delta": item[field]}
        yield {"type": f"response.{event}.done", **where, "name": item.get("name"), field: item[field]}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part(part: JSON, where: JSON) -> Iterator[JSON]:
    kind = str(part.get("type"))
    field = "refusal" if kind == "refusal" else "text"
    extra: JSON = {"logprobs": part.get("logprobs") or []} if kind == "output_text" else {}
    blank: JSON = {**part, field: "", **({"annotations": []} if "annotations" in part else {})}
    yield {"type": "response.content_part.added", **where, "part": blank}
    yield {"type": f"response.{kind}.delta", **where, **extra, "delta": part.get(field)}
    for number, annotation in enumerate(part.get("annotations") or ()):
        yield {
            "type": "response.output_text.annotation.added",
            **where,
            "annotation_index": number,
            "annotation": annotation,
        }
    yield {"type": f"response.{kind}.done", **where, **extra, field: part.get(field)}
    yield {"type": "response.content_part.done", **where, "part": part}


def _summary(part: JSON, where: JSON) -> Iterator[JSON]:
    yield {"type": "response.reasoning_summary_part.added", **where, "part": {**part, "text": ""}}
    yield {"type": "response.reasoning_summary_text.delta", **where, "delta": part.get("text")}
    yield {"type": "response.reasoning_summary_text.done", **where, "text": part.get("text")}
    yield {"type": "response.reasoning_summary_part.done", **where, "part": part}

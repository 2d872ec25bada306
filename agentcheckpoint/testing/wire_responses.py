"""The Responses API as the loopback provider speaks it: bodies, and the events of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator

from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.payments import JSON, Tokens
from agentcheckpoint.testing.wire import arguments, event, mint, pieces

_ECHOED: JSON = {
    **dict.fromkeys(("instructions", "max_output_tokens", "previous_response_id", "reasoning", "user")),
    **{"background": False, "parallel_tool_calls": True, "store": True, "truncation": "disabled"},
    **{"temperature": 1.0, "top_p": 1.0, "metadata": {}, "tools": [], "tool_choice": "auto"},
    "text": {"format": {"type": "text"}},
}
"""What a response repeats of its request, with the defaults."""


def response(request: Request, answer: Answer, tokens: Tokens) -> JSON:
    """The body of a response: completed, incomplete or failed."""
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(answer.finish_reason or "")
    status = "failed" if answer.error else "incomplete" if reason else "completed"
    now = int(time.time())
    return {
        "id": mint("resp"),
        "object": "response",
        "created_at": now,
        "completed_at": now if status == "completed" else None,
        "status": status,
        "model": request.model,
        **{key: request.body.get(key, usual) for key, usual in _ECHOED.items()},
        "error": {"code": answer.code or "server_error", "message": answer.error} if answer.error else None,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "output": _output(answer, "completed" if status == "completed" else "incomplete"),
        "service_tier": answer.service_tier or "default",
        "usage": tokens.usage("responses"),
    }


def _output(answer: Answer, status: str) -> list[JSON]:
    items: list[JSON] = []
    if answer.reasoning_tokens:
        items.append({"id": mint("rs"), "type": "reasoning", "summary": []})
    parts: list[JSON] = []
    if answer.text or not (answer.tool_calls or answer.refusal):
        parts.append({"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []})
    if answer.refusal:
        parts.append({"type": "refusal", "refusal": answer.refusal})
    if parts:
        items.append({"id": mint("msg"), "type": "message", "role": "assistant", "status": status, "content": parts})
    for call in answer.tool_calls:
        named = {"call_id": mint("call"), "name": call.name, "arguments": arguments(call)}
        items.append({"id": mint("fc"), "type": "function_call", "status": status, **named})
    return items


def unfinished(body: JSON, status: str) -> JSON:
    """The response as it was before its end: nothing said, nothing measured."""
    blank = ("usage", "error", "incomplete_details", "completed_at")
    return {**body, "status": status, "output": [], **dict.fromkeys(blank)}


def response_events(body: JSON) -> Iterator[bytes]:
    """The stream of a response, numbered from 0."""
    for number, said in enumerate(_unnumbered(body)):
        yield event({**said, "sequence_number": number}, said["type"])


def _unnumbered(body: JSON) -> Iterator[JSON]:
    begun = unfinished(body, "in_progress")
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(body["output"]):
        where = {"output_index": index, "item_id": item["id"]}
        blank: JSON = {"content": []} if item["type"] == "message" else {"arguments": ""}
        opened = {**item, "status": "in_progress", **{key: blank[key] for key in blank if key in item}}
        yield {"type": "response.output_item.added", "output_index": index, "item": opened}
        for part_index, part in enumerate(item.get("content", ())):
            yield from _part_events(part, {**where, "content_index": part_index})
        if item["type"] == "function_call":
            for piece in pieces(item["arguments"]):
                yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
            yield {"type": "response.function_call_arguments.done", **where, "arguments": item["arguments"]}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{body['status']}", "response": body}


def _part_events(part: JSON, where: JSON) -> Iterator[JSON]:
    key = "text" if part["type"] == "output_text" else "refusal"
    extra: JSON = {"logprobs": []} if key == "text" else {}
    yield {"type": "response.content_part.added", **where, "part": {**part, key: ""}}
    for piece in pieces(part[key]):
        yield {"type": f"response.{part['type']}.delta", **where, **extra, "delta": piece}
    yield {"type": f"response.{part['type']}.done", **where, **extra, key: part[key]}
    yield {"type": "response.content_part.done", **where, "part": part}

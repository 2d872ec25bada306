"""Chat completions as the loopback provider sends them: bodies, and the chunks of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator

from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.payments import JSON, Tokens
from agentcheckpoint.testing.wire import arguments, event, mint, pieces


def chat_completion(request: Request, answer: Answer, tokens: Tokens) -> JSON:
    """The body of a chat completion."""
    calls = [
        {"id": mint("call"), "type": "function", "function": {"name": c.name, "arguments": arguments(c)}}
        for c in answer.tool_calls
    ]
    silent = not answer.text and (calls or answer.refusal)
    message: JSON = {"role": "assistant", "content": None if silent else answer.text, "refusal": answer.refusal}
    if calls:
        message["tool_calls"] = calls
    finish = answer.finish_reason or ("tool_calls" if calls else "stop")
    return {
        "id": mint("chatcmpl", "-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": tokens.usage("chat"),
        "service_tier": answer.service_tier or "default",
        "system_fingerprint": "fp_loopback",
    }


def chat_events(body: JSON, *, include_usage: bool, error: JSON | None) -> Iterator[bytes]:
    """The stream of a chat completion; with ``error`` it ends in that, instead of a finish reason."""
    choice = body["choices"][0]
    message = choice["message"]
    base = {key: body[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    base["object"] = "chat.completion.chunk"
    usage: JSON = {"usage": None} if include_usage else {}

    def chunk(delta: JSON, finish: str | None = None) -> bytes:
        one = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**base, "choices": [one], **usage})

    yield chunk({"role": "assistant", "content": None if message["content"] is None else "", "refusal": None})
    for key in ("content", "refusal"):
        for piece in pieces(message[key] or ""):
            yield chunk({key: piece})
    for index, call in enumerate(message.get("tool_calls", ())):
        yield chunk({"tool_calls": [{"index": index, **call, "function": {**call["function"], "arguments": ""}}]})
        for piece in pieces(call["function"]["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if error is not None:
        yield event(error)
        return
    yield chunk({}, choice["finish_reason"])
    if include_usage:
        yield event({**base, "choices": [], "usage": body["usage"]})
    yield b"data: [DONE]\n\n"

"""OpenAI's wire format as the loopback provider speaks it: requests, and what its answers have in common."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import struct
from collections.abc import Sequence
from typing import Any, cast

from agentcheckpoint.testing.brain import Answer, Endpoint, Request, ToolCall
from agentcheckpoint.testing.payments import JSON, Tokens, count_tokens, encode


class BadRequest(Exception):
    """A request that is answered with an error's status before any brain is asked; the text is the error's message."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


def read_request(endpoint: Endpoint, body: JSON, n: int, earlier: list[JSON]) -> Request:
    """Read a request's body; ``earlier`` are the messages of the response that it continues."""
    model, given = body.get("model"), body.get("messages" if endpoint == "chat" else "input")
    if not isinstance(model, str) or not model:
        raise BadRequest(400, "you must provide a model parameter")
    if not isinstance(given, str | list) or not given or (endpoint == "chat" and isinstance(given, str)):
        raise BadRequest(400, f"missing or wrong parameter: {'messages' if endpoint == 'chat' else 'input'}")
    if body.get("n") not in (None, 1):
        raise BadRequest(400, "only one choice is served: leave n out")
    items: Sequence[Any] = [given] if isinstance(given, str) else cast("Sequence[Any]", given)
    if endpoint == "embeddings":
        # A list of numbers is one input, already cut into tokens.
        items = [items] if isinstance(items[0], int) else items
        messages: list[JSON] = [{"role": "user", "content": item} for item in items]
    else:
        messages = [as_message(item) for item in items]
    first = body.get("instructions")
    opening: list[JSON] = [{"role": "system", "content": first}] if isinstance(first, str) else []
    tools = [_flat(tool) for tool in cast("list[JSON]", body.get("tools") or [])]
    return Request(endpoint, model, [*opening, *earlier, *messages], tools, body, n)


def _flat(tool: JSON) -> JSON:
    """A tool in the shape of the Responses API, which has no object ``function`` inside."""
    return {"type": tool.get("type"), **tool["function"]} if "function" in tool else tool


def as_message(item: str | JSON) -> JSON:
    """An input or output item of the Responses API, or a chat message, in the shape of a chat message."""
    if isinstance(item, str):
        return {"role": "user", "content": item}
    match item.get("type", "message"):
        case "message":
            return {**{k: v for k, v in item.items() if k not in ("type", "id", "status")}, "content": _text(item)}
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            calls = [{"id": item.get("call_id"), "type": "function", "function": function}]
            return {"role": "assistant", "content": None, "tool_calls": calls}
        case "function_call_output":
            return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
        case _:
            return item


def _text(message: JSON) -> Any:
    """The content as one string if it is text throughout, else as it came."""
    content = message.get("content")
    if not isinstance(content, list):
        return content
    parts = cast("list[JSON]", content)
    texts = [part.get("text", part.get("refusal")) for part in parts]
    return "".join(cast("list[str]", texts)) if all(isinstance(text, str) for text in texts) else parts


def output_tokens(answer: Answer) -> int:
    """What an answer is billed as output, reasoning included."""
    said = f"{answer.text}{answer.refusal or ''}".encode("utf-8", "surrogatepass")
    calls = sum(count_tokens(encode([call.name, arguments(call)])) for call in answer.tool_calls)
    return max(1, count_tokens(said) + calls + answer.reasoning_tokens)


def arguments(call: ToolCall) -> str:
    """A call's arguments as the JSON text that goes over the wire."""
    return json.dumps(dict(call.arguments), ensure_ascii=False)


def error_body(status: int, message: str, code: str | None = None, param: str | None = None) -> JSON:
    """OpenAI's JSON shape of an error."""
    kinds = {429: ("requests", "rate_limit_exceeded"), 401: ("invalid_request_error", "invalid_api_key")}
    kind, usual = kinds.get(status, ("invalid_request_error" if 400 <= status < 500 else "server_error", None))
    return {"error": {"message": message, "type": kind, "param": param, "code": code or usual}}


def embedding_list(request: Request, tokens: Tokens) -> JSON:
    """The body of an embeddings answer: vectors that depend on the input alone, and are exact in 32 bits."""
    size = request.body.get("dimensions") or 16
    data: list[JSON] = []
    for index, message in enumerate(request.messages):
        octets = hashlib.shake_256(encode(message["content"])).digest(size)
        vector: Any = [(octet - 128) / 128 for octet in octets]
        if request.body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    return {"object": "list", "data": data, "model": request.model, "usage": tokens.usage("embeddings")}


def event(data: JSON, name: str | None = None) -> bytes:
    """One server-sent event."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + encode(data) + b"\n\n"


def pieces(text: str) -> list[str]:
    """The text word by word, each with the space after it; joined they are the text."""
    return re.findall(r"\S+\s*|\s+", text)


def mint(prefix: str, mark: str = "_") -> str:
    """A new id of that kind."""
    return f"{prefix}{mark}{secrets.token_hex(12)}"

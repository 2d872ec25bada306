"""What an answer of the provider says of itself: tokens, model, tier, id, and whether it is a result at all.

Pure: decoded JSON in, and everything in it may be missing or wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast

from agentcheckpoint.core.fields import name_of
from agentcheckpoint.core.usage import Measured, chat_usage, embeddings_usage, responses_usage

Endpoint: TypeAlias = Literal["chat", "responses", "embeddings"]

_READERS = {"chat": chat_usage, "responses": responses_usage, "embeddings": embeddings_usage}
_FAILED = frozenset({"failed", "cancelled"})
_UNFINISHED = frozenset({"queued", "in_progress"})
_ENDED_BADLY = {"response.failed": "status failed", "response.cancelled": "status cancelled"}
ENDED = frozenset({"response.completed", "response.incomplete", *_ENDED_BADLY})
"""The terminal events of a Responses stream."""
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Answered(Measured):
    """An answer with status 200, as far as money is concerned.

    Attributes:
        response_id: the provider's id of the answer, by which some answers can be fetched again.
        failed: why this is no result, though its status was 200; ``None`` if it is one.
        unfinished: the answer is still being made, or its stream ended too early; no result either.
    """

    response_id: str | None = None
    failed: str | None = None
    unfinished: bool = False


def read_answer(endpoint: Endpoint, body: Mapping[str, object]) -> Answered:
    """Read a whole answer.

    A response that is ``incomplete`` (its limit of tokens was reached) is a result: the caller gets it, and pays.

    Args:
        endpoint: which endpoint was asked.
        body: the answer's decoded JSON.
    """
    status = body.get("status") if endpoint == "responses" else None
    failed = _error(body.get("error"))
    if isinstance(status, str) and status in _FAILED:
        failed = _cut(f"status {status}: {failed}" if failed else f"status {status}")
    return Answered(
        usage=_READERS[endpoint](body),
        served=name_of(body.get("model")),
        tier=name_of(body.get("service_tier")),
        response_id=name_of(body.get("id")),
        failed=failed,
        unfinished=failed is None and isinstance(status, str) and status in _UNFINISHED,
    )


def read_stream(endpoint: Endpoint, events: Iterable[Mapping[str, object]]) -> Answered:
    """Read a streamed answer.

    Args:
        endpoint: which endpoint was asked.
        events: the decoded JSON of the stream's events, in order, without ``[DONE]``.
    """
    return _read_responses(events) if endpoint == "responses" else _read_chunks(events)


def _read_chunks(chunks: Iterable[Mapping[str, object]]) -> Answered:
    usage: object = None
    failed: str | None = None
    names: dict[str, str | None] = {"model": None, "service_tier": None, "id": None}
    seen: set[int] = set()
    finished: set[int] = set()
    for chunk in chunks:
        if chunk.get("usage") is not None:
            usage = chunk["usage"]  # some servers count along: the last one is the sum
        for name in names:
            names[name] = name_of(chunk.get(name)) or names[name]
        failed = failed or _error(chunk.get("error"))
        for index, reason in _choices(chunk.get("choices")):
            seen.add(index)
            if reason:
                finished.add(index)
    return Answered(
        usage=chat_usage({"usage": usage, "model": names["model"]}),
        served=names["model"],
        tier=names["service_tier"],
        response_id=names["id"],
        failed=failed,
        unfinished=failed is None and (not finished or finished != seen),
    )


def _choices(choices: object) -> Iterable[tuple[int, bool]]:
    """Index and "has its ``finish_reason``" of each choice in a chunk."""
    for choice in cast(list[object], choices) if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            fields = cast(dict[str, object], choice)
            index = fields.get("index")
            yield index if isinstance(index, int) else 0, bool(fields.get("finish_reason"))  # some send ""


def _read_responses(events: Iterable[Mapping[str, object]]) -> Answered:
    latest: Mapping[str, object] = {}
    end: str | None = None
    failed: str | None = None
    for event in events:
        kind, response = event.get("type"), event.get("response")
        if isinstance(response, Mapping):
            latest = cast(Mapping[str, object], response)
        if kind == "error":
            failed = _error(event.get("error") or event)
        if isinstance(kind, str) and kind in ENDED:
            end = kind
    answer = read_answer("responses", latest)
    failed = answer.failed or failed or _ENDED_BADLY.get(end or "")
    return replace(answer, failed=failed, unfinished=failed is None and (end is None or answer.unfinished))


def _error(error: object) -> str | None:
    if isinstance(error, Mapping):
        fields = cast(Mapping[str, object], error)
        parts = [fields.get("code") or fields.get("type"), fields.get("message")]
        return _cut(": ".join(str(part) for part in parts if part)) or ("error" if fields else None)
    return _cut(str(error)) if error else None


def _cut(text: str) -> str:
    return text[:_LONGEST_REASON]

"""A stream of server-sent events as it passes by: where its events end, and when the answer is complete. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic_core import from_json

from agentcheckpoint.openai.usage import ENDED, Endpoint

_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LONGEST_END = 4


class Passing:
    """Splits a stream into events and follows its state.

    Args:
        endpoint: whose stream it is.
        hide_usage: do not give out a chunk that has nothing but a chat's usage.

    Attributes:
        events: the decoded data of the events so far.
        answered: the model has said its last word; what may follow is usage and the terminal event.
        ended: the terminal event has come.
    """

    def __init__(self, endpoint: Endpoint, *, hide_usage: bool = False) -> None:
        self._endpoint = endpoint
        self._hide_usage = hide_usage
        self._raw: list[bytes] = []
        self._rest = b""
        self._finished: dict[int, bool] = {}
        self.events: list[Mapping[str, object]] = []
        self.ended = False

    @property
    def answered(self) -> bool:
        return self.ended or (bool(self._finished) and all(self._finished.values()))

    @property
    def body(self) -> bytes:
        """All whole events so far."""
        return b"".join(self._raw)

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The events that this chunk completes, each with whether it is the terminal one."""
        searched = max(0, len(self._rest) - _LONGEST_END)
        self._rest += chunk
        events: list[tuple[bytes, bool]] = []
        while (match := _END_OF_EVENT.search(self._rest, searched)) is not None:
            event, self._rest, searched = self._rest[: match.end()], self._rest[match.end() :], 0
            events += self._take(event)
        return events

    def rest(self) -> list[tuple[bytes, bool]]:
        """What came after the last whole event, when no more comes."""
        rest, self._rest = self._rest, b""
        return self._take(rest) if rest else []

    def _take(self, event: bytes) -> list[tuple[bytes, bool]]:
        self._raw.append(event)
        before = self.ended
        body = self._look_at(event)
        hidden = self._hide_usage and body is not None and body.get("choices") == [] and bool(body.get("usage"))
        return [] if hidden else [(event, self.ended and not before)]

    def _look_at(self, event: bytes) -> Mapping[str, object] | None:
        """Follows the state; what the event says, if it is a JSON object."""
        data = b"\n".join(line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:"))
        if data.startswith(b"[DONE]"):
            self.ended = True
            return None
        try:
            decoded = from_json(data)
        except ValueError:
            return None
        if not isinstance(decoded, dict):
            return None
        body = cast("dict[str, Any]", decoded)
        self.events.append(body)
        if self._endpoint == "responses":
            self.ended = self.ended or body.get("type") in ENDED or body.get("type") == "error"
        elif body.get("error"):  # the SDK raises here, and reads no further
            self.ended = True
        else:
            self._follow_choices(body.get("choices"))
        return body

    def _follow_choices(self, choices: object) -> None:
        for choice in _elements(choices):
            if isinstance(choice, dict):
                index = cast("dict[str, Any]", choice).get("index", 0)
                reason = cast("dict[str, Any]", choice).get("finish_reason")
                self._finished[index] = self._finished.get(index, False) or bool(reason)  # some send ""


def _elements(value: Any) -> Iterable[Any]:
    return cast("Iterable[Any]", value) if isinstance(value, list) else ()


def first_id(endpoint: Endpoint, body: bytes) -> str | None:
    """The answer's id, which the first events of its stream name."""
    passing = Passing(endpoint)
    start = 0
    for match in _END_OF_EVENT.finditer(body):
        passing.feed(body[start : match.end()])
        start = match.end()
        if (known_as := named(endpoint, passing.events[-1:])) is not None:
            return known_as
    return None


def named(endpoint: Endpoint, events: Iterable[Mapping[str, object]]) -> str | None:
    """The answer's id, if one of these events names it."""
    for event in events:
        response = event.get("response") if endpoint == "responses" else event
        known_as = cast("Mapping[str, object]", response).get("id") if isinstance(response, Mapping) else None
        if isinstance(known_as, str) and known_as:
            return known_as
    return None

"""A stream of server-sent events as it passes by: where its events end, and when the answer is complete. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic_core import from_json

from agentcheckpoint.openai.usage import Endpoint

_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ENDED = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})


class Passing:
    """Splits a stream into events and follows its state.

    Attributes:
        events: the decoded data of the events so far.
        answered: the model has said its last word; what may follow is usage and the terminal event.
        ended: the terminal event has come.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
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
        """All bytes so far."""
        return b"".join(self._raw) + self._rest

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The events that this chunk completes, each with whether it is the terminal one."""
        self._rest += chunk
        events: list[tuple[bytes, bool]] = []
        while (match := _END_OF_EVENT.search(self._rest)) is not None:
            event, self._rest = self._rest[: match.end()], self._rest[match.end() :]
            self._raw.append(event)
            before = self.ended
            self._look_at(event)
            events.append((event, self.ended and not before))
        return events

    def rest(self) -> bytes:
        """What came after the last whole event, when no more comes."""
        rest, self._rest = self._rest, b""
        if rest:
            self._raw.append(rest)
            self._look_at(rest)
        return rest

    def _look_at(self, event: bytes) -> None:
        data = b"\n".join(line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:"))
        if data.startswith(b"[DONE]"):
            self.ended = True
            return
        try:
            decoded = from_json(data)
        except ValueError:
            return
        if not isinstance(decoded, dict):
            return
        body = cast("dict[str, Any]", decoded)
        self.events.append(body)
        if self._endpoint == "responses":
            self.ended = self.ended or body.get("type") in _ENDED
        else:
            self._follow_choices(body.get("choices"))

    def _follow_choices(self, choices: object) -> None:
        for choice in _elements(choices):
            if isinstance(choice, dict):
                index = cast("dict[str, Any]", choice).get("index", 0)
                reason = cast("dict[str, Any]", choice).get("finish_reason")
                self._finished[index] = self._finished.get(index, False) or reason is not None


def _elements(value: Any) -> Iterable[Any]:
    return cast("Iterable[Any]", value) if isinstance(value, list) else ()

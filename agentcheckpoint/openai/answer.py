"""The recorded thing: the provider's own answer, its status, its safe headers, its bytes. Never a request header."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field, ValidationError
from pydantic_core import to_json

from agentcheckpoint.core.models import Record
from agentcheckpoint.errors import CheckpointCorrupt

SAFE_HEADERS = frozenset({"content-type", "date", "openai-processing-ms", "openai-version", "x-request-id"})
"""The response headers that are stored; cookies, account names and limits are not."""


class _Head(Record):
    """The first line of a stored answer."""

    status: int = Field(ge=100, le=599)
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is stored: one line of JSON, then the body as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
        """Keeps the safe headers of a response."""
        return cls(status, tuple((k.lower(), v) for k, v in headers if k.lower() in SAFE_HEADERS), body)

    def to_bytes(self) -> bytes:
        return to_json({"status": self.status, "headers": dict(self.headers)}) + b"\n" + self.body

    @classmethod
    def from_bytes(cls, data: bytes) -> Answer:
        """Raises ``CheckpointCorrupt`` if this is no stored answer."""
        line, newline, body = data.partition(b"\n")
        try:
            head = _Head.model_validate_json(line if newline else b"")
        except ValidationError:
            raise CheckpointCorrupt(
                "what is stored is not a provider's answer. If the step was recorded by a plain function before, give "
                "the model call another name with ac.name(...)."
            ) from None
        return cls.of(head.status, head.headers.items(), body)

    @property
    def is_stream(self) -> bool:
        return dict(self.headers).get("content-type", "").startswith("text/event-stream")

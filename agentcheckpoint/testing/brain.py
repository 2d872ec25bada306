"""What a brain is asked and decides: the model behind the loopback provider, written as a function."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from agentcheckpoint.testing.payments import JSON, encode

Endpoint: TypeAlias = Literal["chat", "responses", "embeddings"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for; its id is minted anew for each answer."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What a brain is asked. ``n`` counts the POSTs that this provider has received, from 1.

    ``messages`` have one shape for all endpoints, that of chat completions, with text parts joined to one string;
    ``tools`` have the flat shape of the Responses API. ``body`` is the request as it came.
    """

    endpoint: Endpoint
    model: str
    messages: list[JSON]
    tools: list[JSON]
    body: JSON
    n: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a brain decides. A status of 200 is billed, and so is all that goes wrong after it; an error is not.

    Args:
        text: what the model says; for embeddings it is ignored.
        tool_calls: the calls it asks for, all at once.
        reasoning_tokens: billed as output, unseen.
        refusal: what it says instead of ``text`` when it refuses.
        finish_reason: the default is ``tool_calls`` if there are any, else ``stop``.
        service_tier: the tier in the answer; ``default`` if not given.
        status: 200, or an error's status from 400 to 599.
        error: an error's message. With status 200 the body itself says that the answer failed, and is billed.
        code: an error's code, if not the usual one of its status.
        retry_after: an error's ``Retry-After`` header.
        delay: seconds between the payment and the answer; a brain that sleeps delays the payment too. A background
            response is not ready before.
        chunk_delay: seconds between two events of a stream.
        cut_after: drop the connection of a stream after this many events. Other answers are not affected.
        cut_clean: with ``cut_after``, end the HTTP body properly: only the missing last event tells.
        drop: close the connection without an answer, ``before`` it is billed or ``after``.

    Raises:
        ValueError: a status that is neither 200 nor an error.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning_tokens: int = 0
    refusal: str | None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None = None
    service_tier: str | None = None
    status: int = 200
    error: str = ""
    code: str | None = None
    retry_after: str | None = None
    delay: float = 0
    chunk_delay: float = 0
    cut_after: int | None = None
    cut_clean: bool = False
    drop: Literal["before", "after"] | None = None

    def __post_init__(self) -> None:
        if self.status != 200 and not 400 <= self.status <= 599:
            raise ValueError(f"an Answer's status is 200 or from 400 to 599, not {self.status}")


class Brain(Protocol):
    """Decides an answer. It is called by many threads at once; what it raises is sent as an unpaid 500."""

    def __call__(self, request: Request, /) -> Answer: ...


def echo(request: Request) -> Answer:
    """The default brain: repeats the last message."""
    content = request.messages[-1].get("content")
    return Answer(text=content if isinstance(content, str) else encode(content).decode())


def scripted(*answers: Answer | str) -> Brain:
    """A brain that gives these answers in turn, in the order in which requests come; then errors with status 500."""
    script = iter([Answer(text=answer) if isinstance(answer, str) else answer for answer in answers])
    lock = threading.Lock()

    def brain(request: Request, /) -> Answer:
        with lock:
            spent = Answer(status=500, error=f"the script has {len(answers)} answers; this is request {request.n}")
            return next(script, spent)

    return brain

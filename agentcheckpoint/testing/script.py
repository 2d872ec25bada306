"""The words of a script: what the provider answers, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentcheckpoint.testing.brain import Answer, ToolCall


def reply(text: str, *, reasoning_tokens: int = 0, delay: float = 0) -> Answer:
    """The model says this. ``delay`` is in seconds, after the payment; what it is billed follows from its length."""
    return Answer(text, reasoning_tokens=reasoning_tokens, delay=delay)


def tool_call(name: str, arguments: Mapping[str, Any], /, *more: tuple[str, Mapping[str, Any]]) -> Answer:
    """The model asks for a tool, or for several at once: ``more`` are pairs of a name and its arguments."""
    return Answer(tool_calls=tuple(ToolCall(*each) for each in ((name, arguments), *more)))


def error(status: int, message: str = "", *, retry_after: float | None = None) -> Answer:
    """The provider refuses, unpaid: such as 429, with its ``Retry-After`` in seconds, or 500.

    Raises:
        ValueError: the status is no error's.
    """
    if not 400 <= status <= 599:
        raise ValueError(f"an error's status is from 400 to 599, not {status}")
    return Answer(status=status, error=message, retry_after=None if retry_after is None else f"{retry_after:g}")


def cut_stream(text: str, *, after: int) -> Answer:
    """The model says this, paid; a stream of it is cut after so many events. An answer in one piece comes whole."""
    return Answer(text, cut_after=after)

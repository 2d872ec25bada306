"""What is asked of a server beyond what the caller wrote, and what of its answer he therefore does not see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import openai

from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.modelcall import ModelCall
from agentcheckpoint.openai.sse import Passing

_NAMED = {"stream_options": re.compile(r"stream_options|include_usage"), "stream": re.compile(r"\bstream(ing)?\b")}
"""How a refusal names each of the fields that are added."""
_NOT_TAKEN = frozenset({400, 404, 405, 415, 422, 501})
"""The statuses with which servers refuse a field that they do not know."""
_refused: set[tuple[str, str | None, str]] = set()
"""Base URL, model and field: what a server has refused is not asked of it again."""


def ask(call: ModelCall, options: Any) -> Any:
    """The SDK's request options with what is added to the body: a chat stream's usage, where the caller did not ask
    for it; and, with ``recover=True``, a stream for a response that the provider stores, since a stream names its id at
    once.
    """
    call.added = {name: value for name, value in _wishes(call) if _place(call, name) not in _refused}
    if not call.added:
        return options
    return options.model_copy(update={"extra_json": {**(options.extra_json or {}), **call.added}})


def is_refused(call: ModelCall, error: BaseException) -> bool:
    """Whether the server refused just what was added: then the call is made as it was written, here and from now on.
    Such an answer is not billed.
    """
    if not isinstance(error, openai.APIStatusError) or error.status_code not in _NOT_TAKEN:
        return False
    said = f"{error.param} {error.message} {error.body}"
    named = [name for name in call.added if _NAMED[name].search(said)]
    _refused.update(_place(call, name) for name in named)
    return bool(named)


def hides_usage(call: ModelCall) -> bool:
    """Whether the chunk with a chat stream's usage is not for the caller, who has not asked for it."""
    return call.endpoint == "chat" and call.stream and not _options(call).get("include_usage")


def shown(call: ModelCall, answer: Answer) -> Answer:
    """A recorded answer as this caller asked for it."""
    if not hides_usage(call):
        return answer
    passing = Passing(call.endpoint, hide_usage=True)
    events = [*passing.feed(answer.body), *passing.rest()]
    return replace(answer, body=b"".join(event for event, _ in events))


def _wishes(call: ModelCall) -> Iterator[tuple[str, object]]:
    if hides_usage(call):
        yield "stream_options", {**_options(call), "include_usage": True}
    if call.terms.recover and call.is_stored and not call.stream and not call.background:
        yield "stream", True


def _options(call: ModelCall) -> Mapping[str, object]:
    given = call.body.get("stream_options")
    return cast("Mapping[str, object]", given) if isinstance(given, Mapping) else {}


def _place(call: ModelCall, name: str) -> tuple[str, str | None, str]:
    return call.terms.base, call.model, name

"""A response that was asked for as a stream, so that its id is known at once, and is given as one whole answer."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import partial
from typing import cast

import httpx2
from pydantic_core import to_json

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.flow import Course, Flow, Invoke, Raised
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.line import Line
from agentcheckpoint.openai.locating import is_locatable, locate
from agentcheckpoint.openai.modelcall import ModelCall
from agentcheckpoint.openai.sending import keep_answer, note_error, note_status, read_body, replayed_response
from agentcheckpoint.openai.sse import Passing, named
from agentcheckpoint.openai.usage import ENDED

_BODY_HEADERS = ("content-type", "content-encoding", "content-length", "transfer-encoding")


def collect(call: ModelCall, entry: LedgerEntry, response: httpx2.Response, line: Line) -> Flow[httpx2.Response]:
    """Reads a stream to its end, commits its answer, and returns that as the response to a plain call."""
    passing = Passing(call.endpoint)
    try:
        error = yield from _read(call, entry, response, line, passing)
        entry = call.unsettled[-1]
        if error is not None:
            note_error(call, entry, error)
            return Raised(error)
        return (yield from _give(call, entry, response, _terminal(passing) or {}))
    finally:
        call.handle_left()


def _read(
    call: ModelCall, entry: LedgerEntry, response: httpx2.Response, line: Line, passing: Passing
) -> Course[BaseException | None]:
    """Reads to the terminal event; what kept it from that. The answer's id is committed as soon as it comes."""
    next_chunk = line.chunks(response)
    error: BaseException | None = None
    try:
        while error is None and not passing.ended:
            outcome = yield Invoke(next_chunk)
            if isinstance(outcome, Raised):
                error = outcome.error
            elif outcome.value is None:
                break
            else:
                passing.feed(outcome.value)
                known_as = named(call.endpoint, passing.events) if is_locatable(call, entry) else None
                if known_as is not None and not passing.ended:
                    entry = yield from locate(call, entry, known_as, response.headers.get("x-request-id"))
    except Exception:
        yield Invoke(partial(line.close, response))
        raise
    yield Invoke(partial(line.close, response))
    if error is None and _terminal(passing) is None:
        error = httpx2.RemoteProtocolError("the stream ended without its terminal event", request=response.request)
    return error


def _terminal(passing: Passing) -> Mapping[str, object] | None:
    """The event that says how the answer ended."""
    return next((event for event in passing.events if event.get("type") in (*ENDED, "error")), None)


def _give(
    call: ModelCall, entry: LedgerEntry, response: httpx2.Response, last: Mapping[str, object]
) -> Flow[httpx2.Response]:
    """The terminal event's response, as the body of a plain answer; an error event is an error of the server's."""
    headers = [(key, value) for key, value in response.headers.multi_items() if key.lower() not in _BODY_HEADERS]
    headers.append(("content-type", "application/json"))
    body = last.get("response")
    if not isinstance(body, Mapping):
        note_status(call, entry, 500, response.headers.get("x-request-id"))
        said = cast("Mapping[str, object]", last.get("error") or last)
        return httpx2.Response(500, headers=headers, content=to_json({"error": said}), request=response.request)
    answer = Answer.of(response.status_code, headers, to_json(body))
    kept = yield from keep_answer(call, entry, answer, read_body(call.endpoint, answer.body))
    if kept is not answer:
        return replayed_response(kept, response.request)
    given = httpx2.Response(response.status_code, headers=headers, content=answer.body, request=response.request)
    given.elapsed = datetime.timedelta(milliseconds=call.attempt.now_ms() - entry.at)
    return given

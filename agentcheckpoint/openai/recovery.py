"""An answer that was paid for, perhaps, and never recorded: fetched by its id instead of bought again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast
from urllib.parse import urlencode

import httpx2
from pydantic_core import from_json

from agentcheckpoint.core.ledger import as_waste
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.flow import Flow, Invoke, Perform, Raised
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.line import Line
from agentcheckpoint.openai.modelcall import ModelCall
from agentcheckpoint.openai.retold import events_of
from agentcheckpoint.openai.sending import keep_answer, priced_by, read_body, replayed_response
from agentcheckpoint.openai.streams import is_event_stream, passing_on
from agentcheckpoint.openai.usage import Answered
from agentcheckpoint.store.effects import Pause, Protocol

_PASSING = frozenset({401, 408, 409, 425, 429})
"""Statuses below 500 that say nothing of the answer: the SDK tries again, or its caller does."""
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.1, 5.0, 1.6
"""Seconds between two looks at an answer that is still being made."""
_PATIENCE = 600.0
"""Seconds to wait for it where the client has no time-out."""
_OF_THE_POST = frozenset(
    {"content-length", "content-type", "transfer-encoding", "idempotency-key", "x-client-request-id"}
)


def recover(call: ModelCall, request: httpx2.Request, line: Line) -> Flow[httpx2.Response | None]:
    """The answer of an earlier attempt whose id is known, committed under that attempt's own entry.

    Returns ``None`` where there is none, or none any more: then the call is made again. A trouble on the way to the
    provider is handed on like one of the call's own; nothing is bought on a guess.
    """
    if call.endpoint != "responses" or call.terms.recover is False:
        return None
    handles = call.attempt.journal.handles
    while (handle := handles.take(call.site.slot, call.site.call.inputs.digest)) is not None:
        call.handle = handle
        try:
            outcome = yield from _fetch(call, handle.entries[-1], request, line)
        except BaseException:
            call.handle_left()
            raise
        if outcome is not None:
            return outcome
        call.handle_used()
    return None


def _fetch(call: ModelCall, entry: LedgerEntry, request: httpx2.Request, line: Line) -> Flow[httpx2.Response | None]:
    """Looks at the answer until it is finished. ``None``: it is gone, or no good."""
    pause, may_stream = _FIRST_PAUSE, call.stream
    deadline = call.attempt.now_ms() + 1000 * _patience(request)
    while True:
        outcome = yield Invoke(partial(line.send, _look(call, entry, request, stream=False), False))
        if isinstance(outcome, Raised):
            call.handle_left()
            return outcome
        response = cast(httpx2.Response, outcome.value)
        if not response.is_success:
            return _not_had(call, response)
        said = read_body(call.endpoint, response.content)
        if said.failed is not None or said.response_id != entry.response_id:
            _book_failed(call, entry, said)
            return None
        if may_stream:
            streamed = yield from _stream(call, entry, request, line)
            if streamed is not None:
                return streamed
            may_stream = False
        if not said.unfinished:
            return (yield from _keep(call, entry, request, response, said))
        if call.attempt.now_ms() >= deadline:
            call.handle_left()
            return Raised(httpx2.ReadTimeout("the provider is still making the answer", request=request))
        yield Perform(_wait(pause))
        pause = min(_LONGEST_PAUSE, pause * _GROWTH)


def _not_had(call: ModelCall, response: httpx2.Response) -> httpx2.Response | None:
    status = response.status_code
    if status in _PASSING or (status >= 500 and status != 501):
        call.handle_left()
        return response
    return None


def _book_failed(call: ModelCall, entry: LedgerEntry, said: Answered) -> None:
    """What a failed answer cost goes with the next intent; one that names no usage stays unresolved."""
    if said.response_id == entry.response_id and said.usage is not None:
        wasted = as_waste([priced_by(entry, said, call.terms)])
        call.unsettled = [other for other in call.unsettled if other.id != entry.id] + wasted


def _stream(call: ModelCall, entry: LedgerEntry, request: httpx2.Request, line: Line) -> Flow[httpx2.Response | None]:
    """The answer's events from the first one on, as far as the server still has them."""
    outcome = yield Invoke(partial(line.send, _look(call, entry, request, stream=True), True))
    if isinstance(outcome, Raised):
        call.handle_left()
        return outcome
    response = cast(httpx2.Response, outcome.value)
    store = call.attempt.store
    if response.is_success and is_event_stream(call, response) and store is not None:
        _as_of(entry, response)
        return passing_on(response, line.tee(call, entry, response, store))
    yield Invoke(partial(line.close, response))
    return None


def _keep(
    call: ModelCall, entry: LedgerEntry, request: httpx2.Request, response: httpx2.Response, said: Answered
) -> Flow[httpx2.Response]:
    """Records the finished answer as the call would have had it: whole, or as a stream."""
    body = response.content
    _as_of(entry, response)
    if call.stream:
        body = events_of(cast("Mapping[str, Any]", from_json(body)))
        response.headers["content-type"] = "text/event-stream"
    answer = Answer.of(response.status_code, response.headers.multi_items(), body)
    return replayed_response((yield from keep_answer(call, entry, answer, said)), request)


def _as_of(entry: LedgerEntry, response: httpx2.Response) -> None:
    """The answer is that of the request which was paid for, not of the one that fetched it."""
    if entry.request_id is not None:
        response.headers["x-request-id"] = entry.request_id


def _look(call: ModelCall, entry: LedgerEntry, request: httpx2.Request, *, stream: bool) -> httpx2.Request:
    """A GET of the answer, with the headers and time-outs of the call."""
    given = call.body.get("include")
    query = [("include[]", str(one)) for one in cast("list[object]", given if isinstance(given, list) else [])]
    options = call.body.get("stream_options")
    if stream:
        query.append(("stream", "true"))
        if isinstance(options, Mapping) and cast("Mapping[str, object]", options).get("include_obfuscation") is False:
            query.append(("include_obfuscation", "false"))
    url = request.url
    before = f"{url.query.decode()}&" if url.query and query else url.query.decode()
    url = url.copy_with(
        path=f"{url.path.rstrip('/')}/{entry.response_id}", query=f"{before}{urlencode(query)}".encode() or None
    )
    headers = [(key, value) for key, value in request.headers.multi_items() if key.lower() not in _OF_THE_POST]
    return httpx2.Request("GET", url, headers=headers, extensions=request.extensions)


def _patience(request: httpx2.Request) -> float:
    timeouts = request.extensions.get("timeout")
    read = cast("Mapping[str, object]", timeouts).get("read") if isinstance(timeouts, Mapping) else None
    return float(read) if isinstance(read, int | float) else _PATIENCE


def _wait(seconds: float) -> Protocol[None]:
    yield Pause(seconds, idle=True)

"""The course of one HTTP attempt of a model call: replayed, fetched again by its id, or paid for."""

from __future__ import annotations

from functools import partial
from typing import cast

import httpx2

from agentcheckpoint.flow import Flow, Invoke, Raised
from agentcheckpoint.openai.added import shown
from agentcheckpoint.openai.line import Line
from agentcheckpoint.openai.modelcall import ModelCall
from agentcheckpoint.openai.recovery import recover
from agentcheckpoint.openai.sending import intend, note_error, note_status, recorded, replayed_response
from agentcheckpoint.openai.streams import receive


def send_flow(call: ModelCall, request: httpx2.Request, stream: bool, line: Line) -> Flow[httpx2.Response]:
    """One HTTP attempt.

    Args:
        call: the step that it belongs to.
        request: what the SDK sends.
        stream: whether the SDK wants the response's body left unread.
        line: how its client speaks HTTP.
    """
    answer = yield from recorded(call)
    if answer is not None:
        return replayed_response(shown(call, answer), request)
    fetched = yield from recover(call, request, line)
    if fetched is not None:
        return fetched
    entry, request = yield from intend(call, request)
    request.headers.setdefault("X-Client-Request-Id", entry.id)
    outcome = yield Invoke(partial(line.send, request, stream or "stream" in call.added))
    if isinstance(outcome, Raised):
        note_error(call, entry, outcome.error)
        return outcome
    response = cast(httpx2.Response, outcome.value)
    if not response.is_success:
        note_status(call, entry, response.status_code, response.headers.get("x-request-id"))
        return response
    return (yield from receive(call, entry, response, line))

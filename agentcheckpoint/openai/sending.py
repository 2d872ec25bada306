"""One HTTP attempt of a model call: replayed, or paid for under an intent and committed with its cost."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import httpx2
from pydantic_core import from_json

from agentcheckpoint.attempt import new_id
from agentcheckpoint.core.models import Bill, Done, LedgerEntry
from agentcheckpoint.core.pricing import price_usage
from agentcheckpoint.errors import StepMismatch, UnrecordedCallWarning
from agentcheckpoint.flow import Course, Flow, Invoke, Raised
from agentcheckpoint.openai.affording import afforded
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.modelcall import ModelCall, stacklevel
from agentcheckpoint.openai.sse import first_id
from agentcheckpoint.openai.usage import Answered, Endpoint, read_answer
from agentcheckpoint.paying import intend
from agentcheckpoint.steps import decide, keep_result, note_failure, replay

_NEVER_LEFT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
"""With these no request has reached the provider."""


def send_flow(
    call: ModelCall,
    request: httpx2.Request,
    send: Callable[[httpx2.Request], Any],
    receive: Callable[[ModelCall, LedgerEntry, httpx2.Response], Flow[httpx2.Response]],
) -> Flow[httpx2.Response]:
    """One HTTP attempt: replayed, or paid for. ``receive`` takes a good answer in, in its client's colour."""
    answer = yield from _recorded(call)
    if answer is not None:
        return replayed_response(answer, request)
    entry, request = yield from _intend(call, request)
    request.headers.setdefault("X-Client-Request-Id", entry.id)
    outcome = yield Invoke(partial(send, request))
    if isinstance(outcome, Raised):
        _note_error(call, entry, outcome.error)
        return outcome
    response = cast(httpx2.Response, outcome.value)
    if not response.is_success:
        _note_status(call, entry, response.status_code, response.headers.get("x-request-id"))
        return response
    return (yield from receive(call, entry, response))


def _recorded(call: ModelCall) -> Course[Answer | None]:
    """The recorded answer, if the step has one."""
    done = yield from decide(call.site)
    if done is None:
        return None
    answer = yield from replay(call.site, done, partial(Answer.from_bytes, step=call.site.slot))
    if done.inputs.digest != call.site.call.inputs.digest:
        _refuse_other_shape(call, done, answer)
    read_id = first_id if answer.is_stream else _id_of
    call.answered(done, answer, read_id(call.endpoint, answer.body))
    return answer


def _refuse_other_shape(call: ModelCall, done: Done, answer: Answer) -> None:
    """With ``on_mismatch="reuse"``: the SDK would read a stream where there is none as an empty one."""
    if done.function == call.site.name and answer.is_stream == call.stream:
        return
    raise StepMismatch(
        f"{call.where}: what is recorded is {_shape(done.function, answer.is_stream)}, and "
        f"{_shape(call.site.name, call.stream)} is called for: it cannot be reused. Ask as before, give the call "
        "another name with ac.name(...), or run it again with on_mismatch='rerun'.",
        run_id=call.attempt.run_id,
        step=call.site.slot,
    )


def _shape(function: str | None, stream: bool) -> str:
    return f"{'a stream' if stream else 'an answer'} of {function}"


def _intend(call: ModelCall, request: httpx2.Request) -> Course[tuple[LedgerEntry, httpx2.Request]]:
    """Stores that an attempt is about to be paid for, with what became of those before it."""
    attempt = call.attempt
    entry = LedgerEntry(id=new_id(), bill="unresolved", slot=call.site.slot, model=call.model, at=attempt.now_ms())
    entry, ask, request = yield from afforded(call, entry, request)
    yield from intend(call.site, entry, ask, call.unsettled)
    call.unsettled = [entry]
    return entry, request


def _note_error(call: ModelCall, entry: LedgerEntry, error: BaseException) -> None:
    """The attempt got no answer: not billed if it never left, else nobody knows."""
    bill: Bill = "not_billed" if isinstance(error, _NEVER_LEFT) else "unresolved"
    _settle(call, entry, bill=bill, price=f"no answer: {type(error).__name__}")


def _note_status(call: ModelCall, entry: LedgerEntry, status: int, request_id: str | None) -> None:
    """The attempt was answered with an error. What the server broke off itself may have been billed."""
    bill: Bill = "not_billed" if status < 500 else "unresolved"
    _settle(call, entry, bill=bill, price=f"HTTP {status}", request_id=request_id)


def _settle(call: ModelCall, entry: LedgerEntry, **update: object) -> LedgerEntry:
    settled = entry.model_copy(update={"ms": call.attempt.now_ms() - entry.at, **update})
    call.unsettled = [settled]
    return settled


def keep_answer(call: ModelCall, entry: LedgerEntry, answer: Answer, said: Answered) -> Course[Answer]:
    """Commits a complete answer with its cost. What says of itself that it failed is no result.

    Returns the answer to hand on: this one, or the one that an heir recorded first.
    """
    bought = _priced(call, entry, answer, said)
    if said.failed is not None:
        error = RuntimeError(f"the provider answered with status {answer.status}, and: {said.failed}")
        yield from note_failure(call.site, error, bought.ms, (bought,))
        call.unsettled = []
        return answer
    data = answer.to_bytes()
    stored = yield from keep_result(call.site, call.site.call.inputs, data, bought.ms, (bought,), answer.body)
    call.unsettled = []
    if stored is not None:
        return Answer.from_bytes(stored, step=call.site.slot)
    call.answered(call.attempt.journal.records[call.site.slot], answer, said.response_id)
    return answer


def _priced(call: ModelCall, entry: LedgerEntry, answer: Answer, said: Answered) -> LedgerEntry:
    cost = price_usage(
        said.usage,
        model=said.served,
        asked=entry.model,
        provider=call.terms.provider,
        tier=said.tier,
        at_ms=entry.at,
        table=call.terms.prices,
    )
    return _settle(
        call,
        entry,
        # an answer that failed and names no usage may not be billed at all
        bill="unresolved" if said.failed is not None and said.usage is None else "paid",
        served=said.served,
        tier=said.tier,
        usage=said.usage,
        cost=cost.nano,
        price=cost.source,
        request_id=dict(answer.headers).get("x-request-id"),
    )


def fail(call: ModelCall, error: BaseException) -> Course[None]:
    """The whole call raised: stores what became of its attempts, if that is not stored yet."""
    if call.unsettled and not _is_stored(call):
        yield from note_failure(call.site, error, 0, tuple(call.unsettled))
    elif call.done is not None and isinstance(error, Exception):
        error.add_note(
            f"agentcheckpoint: step {call.site.slot!r} is recorded, so its answer will be the same at every retry. To "
            f"buy another one: ac.reject({call.known_as!r}, 'why')."
        )
    call.unsettled = []


def _is_stored(call: ModelCall) -> bool:
    """Whether something went wrong only after the commit had been applied."""
    last = call.unsettled[-1]
    return call.attempt.money.get(last.id) == last


def replayed_response(answer: Answer, request: httpx2.Request) -> httpx2.Response:
    """The recorded answer as the SDK expects it."""
    response = httpx2.Response(answer.status, headers=list(answer.headers), content=answer.body, request=request)
    response.elapsed = datetime.timedelta(0)
    return response


def take_in(
    call: ModelCall, entry: LedgerEntry, read: Callable[[], Any], response: httpx2.Response
) -> Flow[httpx2.Response]:
    """Takes in an answer that is not a stream: reads it whole, and commits it."""
    outcome = yield Invoke(read)
    if isinstance(outcome, Raised):
        _note_error(call, entry, outcome.error)
        return outcome
    body: bytes = outcome.value
    answer = Answer.of(response.status_code, response.headers.multi_items(), body)
    said = _read_body(call.endpoint, body)
    if said.unfinished:
        _let_go(call)
        return response
    kept = yield from keep_answer(call, entry, answer, said)
    return response if kept is answer else replayed_response(kept, response.request)


def _let_go(call: ModelCall) -> None:
    """The answer is still being made: no step, and its intent stands as unresolved."""
    call.unsettled = []
    call.attempt.journal.end(call.site.call)
    warnings.warn(
        f"{call.where}: the provider is still making this answer (background=True), so it is not recorded: what it "
        "costs is unresolved, and a resume asks for it again. Without background=True it is a step.",
        UnrecordedCallWarning,
        stacklevel=stacklevel(),
    )


def _id_of(endpoint: Endpoint, body: bytes) -> str | None:
    return _read_body(endpoint, body).response_id


def _read_body(endpoint: Endpoint, body: bytes) -> Answered:
    """What a whole answer says of itself. A page of a proxy's, say, is no answer."""
    try:
        decoded = from_json(body)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        return Answered(failed="its body is no JSON object")
    return read_answer(endpoint, cast("dict[str, object]", decoded))

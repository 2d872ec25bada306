"""What a model call stores: its intent, its answer with what that cost, or what became of it."""

from __future__ import annotations

import datetime
import warnings
from functools import partial
from typing import cast

import httpx2
from pydantic_core import from_json

from agentcheckpoint import paying
from agentcheckpoint.attempt import new_id
from agentcheckpoint.core.models import Bill, Done, LedgerEntry
from agentcheckpoint.core.pricing import priced
from agentcheckpoint.errors import StepMismatch, UnrecordedCallWarning
from agentcheckpoint.explain import placed
from agentcheckpoint.flow import Course, Flow, Invoke, Raised
from agentcheckpoint.openai.affording import afforded
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.forgotten import name_forgotten
from agentcheckpoint.openai.line import Line
from agentcheckpoint.openai.modelcall import ModelCall, Terms, stacklevel
from agentcheckpoint.openai.sse import first_id
from agentcheckpoint.openai.usage import Answered, Endpoint, read_answer
from agentcheckpoint.steps import decide, replay
from agentcheckpoint.trying import keep_result, note_failure

_NEVER_LEFT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
"""With these no request has reached the provider."""


def recorded(call: ModelCall) -> Course[Answer | None]:
    """The recorded answer, if the step has one."""
    done = yield from decide(call.site)
    if done is None:
        return None
    answer = yield from replay(call.site, done, Answer.from_bytes)
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


def intend(call: ModelCall, request: httpx2.Request) -> Course[tuple[LedgerEntry, httpx2.Request]]:
    """Stores that an attempt is about to be paid for, with what became of those before it.

    Returns the attempt, and the request to send: a budget's hook may have changed it.
    """
    attempt = call.attempt
    if not call.stream:  # how long a stream goes on is its reader's affair
        attempt.journal.executes(call.site.call)
    entry = LedgerEntry(
        id=new_id(),
        bill="unresolved",
        slot=call.site.slot,
        model=call.model,
        provider=call.terms.provider,
        at=attempt.now_ms(),
    )
    entry, ask, request = yield from afforded(call, entry, request)
    yield from paying.intend(call.site, entry, ask, call.unsettled)
    call.unsettled = [entry]
    return entry, request


def note_error(call: ModelCall, entry: LedgerEntry, error: BaseException) -> None:
    """The attempt got no answer: not billed if it never left, else nobody knows."""
    bill: Bill = "not_billed" if isinstance(error, _NEVER_LEFT) else "unresolved"
    _settle(call, entry, bill=bill, price=f"no answer: {type(error).__name__}")


def note_status(call: ModelCall, entry: LedgerEntry, status: int, request_id: str | None) -> None:
    """The attempt was answered with an error. What the server broke off itself may have been billed."""
    bill: Bill = "not_billed" if status < 500 else "unresolved"
    _settle(call, entry, bill=bill, price=f"HTTP {status}", request_id=request_id)


def _settle(call: ModelCall, entry: LedgerEntry, **update: object) -> LedgerEntry:
    settled = entry.model_copy(update={"ms": call.attempt.now_ms() - entry.at, **update})
    call.unsettled = [settled]
    return settled


def keep_answer(call: ModelCall, entry: LedgerEntry, answer: Answer, said: Answered) -> Course[Answer]:
    """Commits an answer with its cost. What says of itself that it failed is no result; what is still being made can
    be, and has no cost yet.

    Returns the answer to hand on: this one, or the one that an heir recorded first.
    """
    request_id = dict(answer.headers).get("x-request-id")
    bought = _settle(call, priced_by(entry, said, call.terms), request_id=entry.request_id or request_id)
    if said.failed is not None:
        error = RuntimeError(f"the provider answered with status {answer.status}, and: {said.failed}")
        yield from note_failure(call.site, error, bought.ms, (bought,))
        call.unsettled = []
        call.handle_used()
        return answer
    data = answer.to_bytes()
    stored = yield from keep_result(call.site, call.site.call.inputs, data, bought.ms, (bought,), answer.body)
    call.unsettled = []
    call.handle_used()
    if stored is not None:
        with placed(call.attempt.run_id, call.site.slot):
            return Answer.from_bytes(stored)
    call.answered(call.attempt.journal.records[call.site.slot], answer, said.response_id)
    return answer


def priced_by(entry: LedgerEntry, said: Answered, terms: Terms) -> LedgerEntry:
    """The attempt's entry with what its answer says of tokens, model and tier, and with what that costs."""
    known = priced(entry, said, terms.prices)
    # an answer that failed and names no usage may not be billed at all
    unknown = said.unfinished or (said.failed is not None and said.usage is None)
    return known.model_copy(
        update={
            "bill": "unresolved" if unknown else "paid",
            "price": "still being made" if said.unfinished else known.price,
            "response_id": entry.response_id or said.response_id,
        }
    )


def fail(call: ModelCall, error: BaseException) -> Course[None]:
    """The whole call raised: stores what became of its attempts, if that is not stored yet."""
    name_forgotten(call, error)
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


def take_in(call: ModelCall, entry: LedgerEntry, response: httpx2.Response, line: Line) -> Flow[httpx2.Response]:
    """Takes in an answer that is not a stream: reads it whole, and commits it."""
    outcome = yield Invoke(partial(line.read, response))
    if isinstance(outcome, Raised):
        note_error(call, entry, outcome.error)
        return outcome
    body: bytes = outcome.value
    answer = Answer.of(response.status_code, response.headers.multi_items(), body)
    said = read_body(call.endpoint, body)
    if said.unfinished and not (call.background and said.response_id):
        _let_go(call)
        return response
    kept = yield from keep_answer(call, entry, answer, said)
    return response if kept is answer else replayed_response(kept, response.request)


def _let_go(call: ModelCall) -> None:
    """The answer is still being made, and cannot be told from another: no step, and its intent stands as unresolved."""
    call.unsettled = []
    call.attempt.journal.end(call.site.call)
    warnings.warn(
        f"{call.where}: the provider is still making this answer, though background=True was not asked for, or does "
        "not say its id. It is not recorded: what it costs is unresolved, and a resume asks for it again.",
        UnrecordedCallWarning,
        stacklevel=stacklevel(),
    )


def _id_of(endpoint: Endpoint, body: bytes) -> str | None:
    return read_body(endpoint, body).response_id


def read_body(endpoint: Endpoint, body: bytes) -> Answered:
    """What a whole answer says of itself. A page of a proxy's, say, is no answer."""
    try:
        decoded = from_json(body)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        return Answered(failed="its body is no JSON object")
    return read_answer(endpoint, cast("dict[str, object]", decoded))

"""A model call as a step: its slot, taken when the call is made, and the course of each HTTP attempt inside it."""

from __future__ import annotations

import contextlib
import reprlib
import warnings
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2
from pydantic_core import from_json

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.fingerprint import request_inputs
from agentcheckpoint.core.ledger import as_waste
from agentcheckpoint.core.models import Done, Intent, LedgerEntry, Rejected
from agentcheckpoint.core.pricing import Price, price_usage
from agentcheckpoint.errors import RunMisuse, UnrecordedCallWarning
from agentcheckpoint.flow import Course, Flow, Invoke, Perform, Raised, run_flow
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.usage import Answered, Endpoint, read_answer
from agentcheckpoint.options import OnMismatch, Step
from agentcheckpoint.steps import Site, decide, keep_result, note_failure, replay_bytes, scope_in
from agentcheckpoint.store.commit import Change

STEPS: Mapping[str, Endpoint] = {
    "/chat/completions": "chat",
    "/responses": "responses",
    "/embeddings": "embeddings",
}
PAID = ("/audio/", "/batches", "/completions", "/decisions", "/fine_tuning/jobs", "/images/", "/realtime", "/videos")
"""Other paths that cost money: they pass through, and that is said once."""

_NEVER_LEFT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
_named: ContextVar[list[Step] | None] = ContextVar("agentcheckpoint_name", default=None)
_said: set[str] = set()


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose prices apply to a wrapped client's calls."""

    provider: str | None
    prices: Mapping[str, Price]


@dataclass(slots=True)
class ModelCall:
    """One call of the SDK, which may send several HTTP requests."""

    site: Site
    endpoint: Endpoint
    model: str | None
    terms: Terms
    unsettled: list[LedgerEntry] = field(default_factory=list[LedgerEntry])
    """Attempts whose outcome is not stored yet: it goes with the next commit."""
    done: Done | None = None
    """The record that answered it, once there is one."""
    response_id: str | None = None

    @property
    def attempt(self) -> Attempt:
        return self.site.attempt


@contextlib.contextmanager
def name(step: str, /, *, key: str | None = None, on_mismatch: OnMismatch | None = None) -> Generator[None]:
    """Names the next model call: ``with ac.name("plan"): client.responses.create(...)``.

    Args:
        step: the step's name, instead of the endpoint's (``chat``, ``responses``, ``embeddings``).
        key: what tells it apart from others of that name.
        on_mismatch: what to do when it is recorded with another request; as in ``Step``.
    """
    token = _named.set([Step(step, key=key, on_mismatch=on_mismatch)])
    try:
        yield
    finally:
        _named.reset(token)


def begin(method: str, path: str, body: object, terms: Terms) -> ModelCall | None:
    """The step that this request is, with its slot; ``None``: it passes through."""
    endpoint = STEPS.get(path) if method.lower() == "post" else None
    here = current.position()
    if here is None:
        if endpoint is not None:
            current.warn_if_unrecorded(f"A call of {path}", stacklevel=6)
        return None
    if here.attempt.store is None:
        return None
    if endpoint is None or not isinstance(body, Mapping):
        _warn_if_paid(method, path)
        return None
    here.attempt.check()
    return _take_slot(here.attempt, endpoint, cast("Mapping[str, object]", body), terms)


def _take_slot(attempt: Attempt, endpoint: Endpoint, body: Mapping[str, object], terms: Terms) -> ModelCall:
    waiting = _named.get()
    step = waiting.pop() if waiting else Step(endpoint)
    inputs = request_inputs(endpoint, body)
    scope = scope_in(attempt)
    call = attempt.journal.call(scope, step.name, step.key, inputs)
    model = body.get("model")
    site = Site(attempt, step, "llm", scope, call, f"openai:{endpoint}")
    return ModelCall(site, endpoint, model if isinstance(model, str) else None, terms)


def _warn_if_paid(method: str, path: str) -> None:
    kind = next((paid for paid in PAID if path.startswith(paid)), None)
    if method.lower() != "post" or kind is None or kind in _said:
        return
    _said.add(kind)
    warnings.warn(
        f"POST {path} may cost money and is not recorded: only chat completions, responses and embeddings are. It is "
        "made again on every resume, and is not in run.cost. Wrap it: run.llm('name', client.images.generate, ...).",
        UnrecordedCallWarning,
        stacklevel=6,
    )


# -- one HTTP attempt -------------------------------------------------------------------------------------------------


def recorded(call: ModelCall) -> Course[Answer | None]:
    """The recorded answer, if the step has one."""
    if call.unsettled:  # a retry of the SDK's: that it is not recorded is known
        return None
    done = yield from decide(call.site)
    if done is None:
        return None
    data = yield from replay_bytes(call.site, done)
    answer = Answer.from_bytes(data, step=call.site.slot)
    offer_rejection(call, done, answer)
    return answer


def intend(call: ModelCall) -> Course[LedgerEntry]:
    """Stores that an attempt is about to be paid for, with what became of those before it."""
    attempt = call.attempt
    entry = LedgerEntry(id=new_id(), bill="unresolved", slot=call.site.slot, model=call.model, at=attempt.now_ms())
    intent = Intent(id=new_id(), at=entry.at, slot=call.site.slot, entries=(*call.unsettled, entry))
    yield Perform(attempt.commit(Change(intent), call.site.call))
    call.unsettled = [entry]
    return entry


def note_error(call: ModelCall, entry: LedgerEntry, error: BaseException) -> None:
    """The attempt got no answer: not billed if it never left, else nobody knows."""
    bill = "not_billed" if isinstance(error, _NEVER_LEFT) else "unresolved"
    _settle(call, entry, bill=bill, price=f"no answer: {type(error).__name__}")


def note_status(call: ModelCall, entry: LedgerEntry, status: int, request_id: str | None) -> None:
    """The attempt was answered with an error. What the server broke off itself may have been billed."""
    bill = "not_billed" if status < 500 else "unresolved"
    _settle(call, entry, bill=bill, price=f"HTTP {status}", request_id=request_id)


def _settle(call: ModelCall, entry: LedgerEntry, **update: object) -> LedgerEntry:
    known = {"ms": call.attempt.now_ms() - entry.at, **update}
    settled = entry.model_copy(update=known)
    call.unsettled = [settled]
    return settled


def keep_answer(call: ModelCall, entry: LedgerEntry, answer: Answer, said: Answered) -> Course[Answer]:
    """Commits a complete answer with its cost. What says of itself that it failed is wasted money, and no result.

    Returns the answer to hand on: this one, or the one that an heir recorded first.
    """
    paid = _priced(call, entry, answer, said)
    call.response_id = said.response_id
    if said.failed is not None:
        error = RuntimeError(f"the provider answered with status {answer.status}, and: {said.failed}")
        yield from note_failure(call.site, error, paid.ms, (paid,))
        call.unsettled = []
        return answer
    data = answer.to_bytes()
    stored = yield from keep_result(call.site, call.site.call.inputs, data, paid.ms, (paid,), answer.body)
    call.unsettled = []
    done = call.attempt.journal.records.get(call.site.slot)
    if stored is not None:
        return Answer.from_bytes(stored, step=call.site.slot)
    if done is not None:
        offer_rejection(call, done, answer, said.response_id)
    return answer


def _priced(call: ModelCall, entry: LedgerEntry, answer: Answer, said: Answered) -> LedgerEntry:
    cost = price_usage(
        said.usage,
        model=said.served,
        asked=call.model,
        provider=call.terms.provider,
        tier=said.tier,
        at_ms=entry.at,
        table=call.terms.prices,
    )
    return _settle(
        call,
        entry,
        bill="paid",
        served=said.served,
        tier=said.tier,
        usage=said.usage,
        cost=cost.nano,
        price=cost.source,
        request_id=dict(answer.headers).get("x-request-id"),
    )


def fail(call: ModelCall, error: BaseException) -> Course[None]:
    """The whole call raised: stores what became of its attempts, if that is not stored yet."""
    if call.unsettled:
        yield from note_failure(call.site, error, 0, tuple(call.unsettled))
        call.unsettled = []
    elif call.done is not None and isinstance(error, Exception):
        error.add_note(
            f"agentcheckpoint: step {call.site.slot!r} is recorded, so its answer will be the same at every retry. To "
            f"buy another one: ac.reject({call.response_id!r}, 'why')."
        )


# -- rejecting --------------------------------------------------------------------------------------------------------


def offer_rejection(call: ModelCall, done: Done, answer: Answer, response_id: str | None = None) -> None:
    """Remembers by which ids the caller may refuse this answer."""
    call.done = done
    if response_id is None and not answer.is_stream:
        response_id = body_of(call.endpoint, answer.body).response_id
    call.response_id = response_id or dict(answer.headers).get("x-request-id")
    for known_as in (response_id, dict(answer.headers).get("x-request-id")):
        if known_as:
            call.attempt.answers[known_as] = (done, call.site.call)


def body_of(endpoint: Endpoint, body: bytes) -> Answered:
    """What a whole answer says of itself; nothing, if it is no JSON object."""
    try:
        decoded = from_json(body)
    except ValueError:
        return Answered()
    if not isinstance(decoded, dict):
        return Answered()
    return read_answer(endpoint, cast("dict[str, object]", decoded))


def reject(answer: object, why: str) -> None:
    """Refuses a recorded answer: it is booked as wasted, and its step is open again, in one commit.

    Call it where the answer turns out to be no good; the next call, in this attempt or a later one, buys another.

    Args:
        answer: what the SDK returned, or the answer's id.
        why: the reason, stored with it.

    Raises:
        RunMisuse: there is no current run, or it did not hand out this answer.
        StoreError: the refusal could not be stored.
    """
    here = current.position()
    names = (getattr(answer, "id", None), getattr(answer, "_request_id", None))
    known_as = [answer] if isinstance(answer, str) else [known for known in names if isinstance(known, str)]
    found = None
    if here is not None:
        found = next((here.attempt.answers[key] for key in known_as if key in here.attempt.answers), None)
    if here is None or found is None or here.attempt.store is None:
        raise RunMisuse(
            f"ac.reject: {reprlib.repr(answer)} is not an answer that the current run has handed out. Give it what "
            "the wrapped client returned, inside the run."
        )
    run_flow(here.attempt.store, _reject(here.attempt, found, why))


def _reject(attempt: Attempt, found: tuple[Done, Any], why: str) -> Flow[None]:
    done, call = found
    entries = tuple(as_waste(attempt.money.get(entry.id, entry) for entry in done.entries))
    refused = Rejected(
        id=new_id(), at=attempt.now_ms(), slot=done.slot, target=done.id, why=why[:2000], entries=entries
    )
    yield Perform(attempt.commit(Change(refused), call))
    attempt.journal.reject(done.slot, done.id)
    attempt.journal.reopen(call)
    for known_as in [key for key, (other, _) in attempt.answers.items() if other.id == done.id]:
        del attempt.answers[known_as]
    return None


def send_flow(
    call: ModelCall,
    request: httpx2.Request,
    send: Callable[[], Any],
    receive: Callable[[ModelCall, LedgerEntry, httpx2.Response], Flow[httpx2.Response]],
) -> Flow[httpx2.Response]:
    """One HTTP attempt: replayed, or paid for. ``receive`` takes a good answer in, in its client's colour."""
    answer = yield from recorded(call)
    if answer is not None:
        return replayed_response(answer, request)
    entry = yield from intend(call)
    request.headers.setdefault("X-Client-Request-Id", entry.id)
    outcome = yield Invoke(send)
    if isinstance(outcome, Raised):
        note_error(call, entry, outcome.error)
        return outcome
    response = cast(httpx2.Response, outcome.value)
    if not response.is_success:
        note_status(call, entry, response.status_code, response.headers.get("x-request-id"))
        return response
    return (yield from receive(call, entry, response))


def replayed_response(answer: Answer, request: httpx2.Request) -> httpx2.Response:
    """The recorded answer as the SDK expects it."""
    import datetime

    response = httpx2.Response(answer.status, headers=list(answer.headers), content=answer.body, request=request)
    response.elapsed = datetime.timedelta(0)
    return response


def take_in(
    call: ModelCall, entry: LedgerEntry, read: Callable[[], Any], response: httpx2.Response
) -> Flow[httpx2.Response]:
    """Takes in an answer that is not a stream: reads it whole, and commits it."""
    outcome = yield Invoke(read)
    if isinstance(outcome, Raised):
        note_error(call, entry, outcome.error)
        return outcome
    body: bytes = outcome.value
    answer = Answer.of(response.status_code, response.headers.multi_items(), body)
    said = body_of(call.endpoint, body)
    if said.unfinished:
        call.unsettled = []  # its intent stands as unresolved
        return response
    kept = yield from keep_answer(call, entry, answer, said)
    return response if kept is answer else replayed_response(kept, response.request)

"""A model call as a step: which requests are steps, and the slot that each takes when it is called."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.fingerprint import request_inputs
from agentcheckpoint.core.models import Done, LedgerEntry, Located
from agentcheckpoint.core.pricing import Price
from agentcheckpoint.errors import UnrecordedCallWarning
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.calls import take_name
from agentcheckpoint.openai.usage import Endpoint
from agentcheckpoint.options import Step
from agentcheckpoint.steps import Site, scope_in

STEPS: Mapping[str, Endpoint] = {
    "/chat/completions": "chat",
    "/responses": "responses",
    "/embeddings": "embeddings",
}
PAID = re.compile(
    r"/(agents/sessions(/[^/]+/events)?|audio/(speech|transcriptions|translations)|batches|completions|decisions"
    r"|evals/[^/]+/runs|fine_tuning/jobs|images/\w+|live/sessions|realtime/.+|responses/compact|threads/([^/]+/)?runs"
    r"|videos(/.+)?)"
)
"""Other POSTs that cost money: they pass through, and that is said once for each."""

_OURS = frozenset({"agentcheckpoint", "httpx2", "openai"})
_said: set[str] = set()


@dataclass(frozen=True, slots=True)
class Terms:
    """What ``wrap`` was told: whose prices apply to a call, and which answers are fetched again by their ids."""

    provider: str | None
    prices: Mapping[str, Price]
    recover: bool | None = None
    base: str = ""
    """The base URL of the client that makes the call."""


@dataclass(slots=True)
class ModelCall:
    """One call of the SDK, which may send several HTTP requests."""

    site: Site
    endpoint: Endpoint
    model: str | None
    stream: bool
    """Whether a stream of events was asked for."""
    terms: Terms
    body: Mapping[str, object]
    """What is asked, as the caller wrote it."""
    added: Mapping[str, object] = field(default_factory=dict[str, object])
    """What is asked of the server beyond that."""
    handle: Located | None = None
    """What names the answer that is coming, once its id is known; this call has taken it."""
    unsettled: list[LedgerEntry] = field(default_factory=list[LedgerEntry])
    """Attempts whose outcome is not stored yet: it goes with the next commit."""
    done: Done | None = None
    """The record that answered it, once there is one."""
    known_as: str | None = None
    """By which name the caller may refuse that answer."""

    @property
    def attempt(self) -> Attempt:
        return self.site.attempt

    @property
    def background(self) -> bool:
        """Whether the provider is to make the answer in its own time."""
        return self.body.get("background") is True

    @property
    def is_stored(self) -> bool:
        """Whether the provider keeps the answer, to be fetched by its id."""
        return self.endpoint == "responses" and self.body.get("store") is not False

    def handle_used(self) -> None:
        """The answer that the handle names is recorded, or is known to be no good."""
        if self.handle is not None:
            self.attempt.journal.handles.drop(self.handle.entries[-1].id)
            self.handle = None

    def handle_left(self) -> None:
        """The call ended without that answer: the next equal one may fetch it."""
        if self.handle is not None:
            self.attempt.journal.handles.give_back(self.handle)
            self.handle = None

    def answered(self, done: Done, answer: Answer, response_id: str | None) -> None:
        """The answer is recorded: remembers by which names the caller may refuse it."""
        request_id = dict(answer.headers).get("x-request-id")
        self.done = done
        self.known_as = response_id or request_id or done.slot
        for name in (response_id, request_id, done.slot):
            if name:
                self.attempt.answers[name] = (done, self.site.call)

    @property
    def where(self) -> str:
        """Run and step, for messages."""
        return f"run {self.attempt.run_id!r}, step {self.site.slot!r}"


def begin(method: str, path: str, body: object, terms: Terms) -> ModelCall | None:
    """The step that this request is, with its slot; ``None``: it passes through.

    Args:
        method, path: of the request, without the base URL and the query.
        body: the JSON body as it will be sent.
        terms: whose prices apply.

    Raises:
        RunMisuse, LeaseLost: the run cannot go on: before anything is paid.
    """
    if method.lower() != "post":
        return None
    endpoint = STEPS.get(path)
    here = current.position()
    if here is None:
        if endpoint is not None:
            current.warn_if_unrecorded(f"A call of {path}", stacklevel=stacklevel() + 1)
        return None
    if here.attempt.store is None:
        return None
    if endpoint is None or not isinstance(body, Mapping):
        _warn_if_paid(path, endpoint)
        return None
    here.attempt.check()
    return _take_slot(here.attempt, endpoint, cast("Mapping[str, object]", body), terms)


def _take_slot(attempt: Attempt, endpoint: Endpoint, body: Mapping[str, object], terms: Terms) -> ModelCall:
    step = take_name() or Step(endpoint)
    inputs = request_inputs(endpoint, body)
    scope = scope_in(attempt)
    call = attempt.journal.call(scope, step.name, step.key, inputs)
    model = body.get("model")
    site = Site(attempt, step, "llm", scope, call, f"openai:{endpoint}")
    return ModelCall(site, endpoint, model if isinstance(model, str) else None, body.get("stream") is True, terms, body)


def _warn_if_paid(path: str, endpoint: Endpoint | None) -> None:
    if (endpoint is None and PAID.fullmatch(path) is None) or path in _said:
        return
    _said.add(path)
    what = "is not recorded: only chat completions, responses and embeddings are"
    if endpoint is not None:
        what = "is not recorded: its body is no JSON object"
    warnings.warn(
        f"POST {path} may cost money and {what}. It is made again on every resume, and is not in run.cost. Make it a "
        "step with a client that is not wrapped: run.llm('name', client.images.generate, ...).",
        UnrecordedCallWarning,
        stacklevel=stacklevel(),
    )


def stacklevel() -> int:
    """For a warning of the caller: the frame of the user's own code, below those of the SDK."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    return level

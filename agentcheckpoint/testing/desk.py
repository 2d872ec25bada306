"""The loopback provider's desk: takes requests, asks the brain, books the payment, builds the reply."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import parse_qs

from agentcheckpoint.testing import wire, wire_chat, wire_responses
from agentcheckpoint.testing.brain import Answer, Brain, Endpoint, Request
from agentcheckpoint.testing.payments import (
    DEFAULT_PRICE,
    JSON,
    Journal,
    Payment,
    Price,
    PromptCache,
    Tokens,
    count_tokens,
    digest_of,
    encode,
)
from agentcheckpoint.testing.shelf import Reply, Shelf
from agentcheckpoint.testing.wire import BadRequest

_PATHS: dict[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
}
_CANCEL = re.compile(r"/v1/responses/([^/]+)/cancel")


@dataclass(frozen=True, slots=True)
class Received:
    """One POST as it came, paid or not. Header names are in lower case; ``n`` counts from 1."""

    n: int
    path: str
    headers: dict[str, str]
    body: bytes


class Desk:
    """Takes requests, asks the brain, books the payment, builds the reply. Knows nothing of sockets."""

    def __init__(
        self,
        brain: Brain,
        journal: Journal,
        prices: Mapping[str, Price],
        cache_minimum: int,
        refuses: Collection[str] = (),
    ) -> None:
        self.closing = threading.Event()
        self.brain = brain
        self._journal = journal
        self._prices = prices
        self._cache = PromptCache(cache_minimum)
        self._requests: list[Received] = []
        self._looks: list[str] = []
        self._refuses = frozenset(refuses)
        self.shelf = Shelf()
        self._lock = threading.Lock()

    @property
    def requests(self) -> list[Received]:
        with self._lock:
            return list(self._requests)

    @property
    def looks(self) -> list[str]:
        with self._lock:
            return list(self._looks)

    def post(self, path: str, headers: dict[str, str], raw: bytes) -> Reply:
        with self._lock:
            received = Received(len(self._requests) + 1, path, headers, raw)
            self._requests.append(received)
        request_id = _request_id()
        try:
            if cancelled := _CANCEL.fullmatch(path):
                return Reply(self.shelf.cancel(cancelled[1]), request_id, Answer())
            request = self._read(received)
            answer = self.brain(request)
            if answer.status != 200 or answer.drop == "before":
                return Reply(wire.error_body(answer.status, answer.error, answer.code), request_id, answer)
            return self._sell(request, answer, request_id, headers.get("x-client-request-id", ""))
        except BadRequest as refused:
            return _refusal(request_id, refused)
        except Exception as error:
            return _refusal(request_id, BadRequest(500, f"{type(error).__name__}: {error}"))

    def get(self, target: str) -> Reply:
        """What a GET of this path and query is answered; it is never billed."""
        with self._lock:
            self._looks.append(target)
        path, _, query = target.partition("?")
        try:
            if path == "/v1/models":
                names = [{"id": name, "object": "model", "created": 0, "owned_by": "loopback"} for name in self._prices]
                return Reply({"object": "list", "data": names}, _request_id(), Answer())
            asked = {name: values[-1] for name, values in parse_qs(query).items()}
            return self.shelf.get(path.removeprefix("/v1/responses/"), asked, _request_id())
        except BadRequest as refused:
            return _refusal(_request_id(), refused)

    def delete(self, path: str) -> Reply:
        """Deletes a stored response."""
        try:
            return Reply(self.shelf.delete(path.removeprefix("/v1/responses/")), _request_id(), Answer())
        except BadRequest as refused:
            return _refusal(_request_id(), refused)

    def _read(self, received: Received) -> Request:
        endpoint = _PATHS.get(received.path)
        if endpoint is None:
            raise BadRequest(404, f"there is nothing at POST {received.path}")
        try:
            body: object = json.loads(received.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise BadRequest(400, "the body is not a JSON object")
        known = cast(JSON, body)
        for field in self._refuses & {name for name, value in known.items() if value}:
            raise BadRequest(400, f"Unrecognized request argument supplied: {field}", param=field)
        before = known.get("previous_response_id")
        earlier = self.shelf.conversation(before) if before else []
        return wire.read_request(endpoint, known, received.n, earlier)

    def _sell(self, request: Request, answer: Answer, request_id: str, client_request_id: str) -> Reply:
        prompt = b"\n".join(encode(part) for part in (*request.tools, *request.messages))
        if request.endpoint == "embeddings":
            tokens = Tokens(count_tokens(prompt))
            body = wire.embedding_list(request, tokens)
        else:
            cached = self._cache.meet(request.model, prompt)
            tokens = Tokens(count_tokens(prompt), wire.output_tokens(answer), cached, answer.reasoning_tokens)
            build = wire_chat.chat_completion if request.endpoint == "chat" else wire_responses.response
            body = build(request, answer, tokens)
        payment = Payment(
            endpoint=request.endpoint,
            digest=digest_of(request.body),
            client_request_id=client_request_id,
            request_id=request_id,
            model=request.model,
            usage=body["usage"],
            cost=self._prices.get(request.model, DEFAULT_PRICE).of(tokens),
        )
        self._journal.book(payment)
        return self._deliver(request, answer, body, request_id)

    def _deliver(self, request: Request, answer: Answer, body: JSON, request_id: str) -> Reply:
        if request.endpoint == "responses":
            return self._keep(request, answer, body, request_id)
        failure = wire.error_body(500, answer.error, answer.code) if answer.error else None
        if request.endpoint == "embeddings" or not request.body.get("stream"):
            return Reply(failure or body, request_id, answer)
        options = cast(JSON, request.body.get("stream_options") or {})
        events = wire_chat.chat_events(body, include_usage=bool(options.get("include_usage")), error=failure)
        return Reply(body, request_id, answer, tuple(events))

    def _keep(self, request: Request, answer: Answer, body: JSON, request_id: str) -> Reply:
        """Keep a response for later requests that name it."""
        streamed = bool(request.body.get("stream"))
        background = bool(request.body.get("background"))
        events = tuple(wire_responses.response_events(body)) if streamed else None
        if request.body.get("store") is not False:
            # The instructions of a response do not carry over to the one that continues it.
            said = request.messages[isinstance(request.body.get("instructions"), str) :]
            conversation = [*said, *(wire.as_message(item) for item in body["output"])]
            takes = answer.delay + answer.chunk_delay * (len(events) - 1 if events else 0)
            self.shelf.keep(body, conversation, takes, streamed=streamed or not background)
        if background and not streamed:
            return Reply(wire_responses.unfinished(body, "queued"), request_id, replace(answer, delay=0))
        return Reply(body, request_id, answer, events)


def _refusal(request_id: str, refused: BadRequest) -> Reply:
    answer = Answer(status=refused.status, error=str(refused))
    return Reply(wire.error_body(refused.status, answer.error, refused.code, refused.param), request_id, answer)


def _request_id() -> str:
    return f"req_{secrets.token_hex(16)}"

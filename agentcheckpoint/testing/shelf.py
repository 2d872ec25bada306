"""The responses that the loopback provider keeps: fetched by their ids, streamed again, cancelled, forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agentcheckpoint.testing import wire_responses
from agentcheckpoint.testing.brain import Answer
from agentcheckpoint.testing.payments import JSON
from agentcheckpoint.testing.wire import BadRequest


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: a body, or the events of a stream."""

    body: JSON
    request_id: str
    answer: Answer
    events: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Stored:
    """A response kept for later, with the conversation up to it, and when it is ready on the monotonic clock.

    ``streamed``: it can be streamed later, which a background response that was asked for without a stream cannot.
    """

    body: JSON
    conversation: list[JSON]
    ready: float
    streamed: bool

    def now(self) -> JSON:
        """The response as it stands: being made, or as it ended."""
        done = time.monotonic() >= self.ready
        return self.body if done else wire_responses.unfinished(self.body, "in_progress")


class Shelf:
    """Keeps responses by their ids, as long as it is not told to forget them.

    Attributes:
        streams: whether a kept response can be streamed again; ``False``: its stream has expired.
    """

    def __init__(self) -> None:
        self.streams = True
        self._stored: dict[str, _Stored] = {}
        self._lock = threading.Lock()

    def keep(self, body: JSON, conversation: list[JSON], takes: float, *, streamed: bool) -> None:
        """Keep a response that is ready after ``takes`` seconds."""
        with self._lock:
            self._stored[body["id"]] = _Stored(body, conversation, time.monotonic() + takes, streamed)

    def conversation(self, response_id: str) -> list[JSON]:
        """The messages up to and with this response."""
        stored = self._stored.get(response_id)
        if stored is None:
            raise BadRequest(
                400, f"previous response {response_id} not found", "previous_response_not_found", "previous_response_id"
            )
        return stored.conversation

    def get(self, response_id: str, asked: Mapping[str, str], request_id: str) -> Reply:
        """The response as it stands; as events, from the one after ``starting_after`` on, if a stream is asked for."""
        stored = self._known(response_id)
        if asked.get("stream") != "true":
            return Reply(stored.now(), request_id, Answer())
        if not self.streams or not stored.streamed:
            raise BadRequest(400, f"the events of response {response_id} are no longer to be had", param="stream")
        events = tuple(wire_responses.response_events(stored.body))[int(asked.get("starting_after", -1)) + 1 :]
        left = max(0.0, stored.ready - time.monotonic())
        return Reply(stored.body, request_id, Answer(chunk_delay=left / max(1, len(events))), events)

    def cancel(self, response_id: str) -> JSON:
        """Cancels a response that is not ready yet; what it has cost is not said."""
        with self._lock:
            stored = self._known(response_id)
            if stored.now() is stored.body:
                raise BadRequest(400, f"response {response_id} has ended, with status {stored.body['status']}")
            body = wire_responses.unfinished(stored.body, "cancelled")
            self._stored[response_id] = replace(stored, body=body, ready=0.0)
        return body

    def delete(self, response_id: str) -> JSON:
        """Forgets a response. It stays paid."""
        with self._lock:
            self._known(response_id)
            del self._stored[response_id]
        return {"id": response_id, "object": "response", "deleted": True}

    def _known(self, response_id: str) -> _Stored:
        stored = self._stored.get(response_id)
        if stored is None:
            raise BadRequest(404, f"there is no response {response_id}")
        return stored

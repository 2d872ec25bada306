"""One stream as it passes by, in either colour: what has come, who reads it, and the commit that its end brings."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections import deque
from typing import Any

import httpx2

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import LeaseLost, UnrecordedCallWarning
from agentcheckpoint.flow import Course, Invoke, Raised
from agentcheckpoint.openai.added import hides_usage
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.locating import is_locatable, locate
from agentcheckpoint.openai.modelcall import ModelCall, stacklevel
from agentcheckpoint.openai.sending import keep_answer
from agentcheckpoint.openai.sse import Passing, named
from agentcheckpoint.openai.usage import read_stream
from agentcheckpoint.store.store import Store


class TeeBase:
    """What both colours share."""

    def __init__(self, call: ModelCall, entry: LedgerEntry, response: httpx2.Response, store: Store) -> None:
        self.call, self.entry, self.response, self.store = call, entry, response, store
        self.passing = Passing(call.endpoint, hide_usage=hides_usage(call))
        self.waiting: deque[tuple[bytes, bool]] = deque()
        """Events that have come and were not handed on yet, each with whether it is the last."""
        self.reader = _here()
        """Who took the last event."""
        self.over = False
        """Committed, or given up: nothing more is to be done."""
        self.finishing = 0
        """How many wait for its end at this moment."""
        self._taking = threading.Lock()
        call.attempt.before_next_call.append(self.finish)

    @property
    def elapsed(self) -> Any:
        """How long the whole exchange took, once it is closed; httpx2 asks its stream."""
        return getattr(self.response.stream, "elapsed", None)

    # -- what has come --------------------------------------------------------------------------------------------

    def take(self, chunk: bytes) -> None:
        with self._taking:
            self.waiting.extend(self.passing.feed(chunk))

    def take_rest(self) -> None:
        with self._taking:
            self.waiting.extend(self.passing.rest())

    def is_due(self, last: bool) -> bool:
        """Whether something must be committed before this event is handed on."""
        self.reader = _here()
        if self.passing.answered and not self.waiting:
            self.call.attempt.journal.whole(self.call.site.call)
        return not self.over and (last or self._name() is not None)

    def _name(self) -> str | None:
        """The answer's id, if it can be fetched by it, and that is not stored yet. One of the first events has it."""
        if not is_locatable(self.call, self.entry):
            return None
        with self._taking:
            return named(self.call.endpoint, self.passing.events[:3])

    def keep(self, last: bool) -> Course[None]:
        """Commits what is due: the whole stream before its last event, the answer's id before its first."""
        if last:
            yield from self.commit()
        elif (known_as := self._name()) is not None:
            request_id = self.response.headers.get("x-request-id")
            self.entry = yield from locate(self.call, self.entry, known_as, request_id)

    # -- how it ends ----------------------------------------------------------------------------------------------

    def commit(self) -> Course[None]:
        """Stores the complete stream.

        Raises:
            LeaseLost: an heir has recorded the step with an answer that is not the one handed out here.
        """
        if not self._settle():
            return
        with self._taking:
            said = read_stream(self.call.endpoint, self.passing.events)
            body = self.passing.body
        answer = Answer.of(self.response.status_code, self.response.headers.multi_items(), body)
        try:
            kept = yield from keep_answer(self.call, self.entry, answer, said)
        finally:
            self.call.attempt.journal.end(self.call.site.call)
            self.call.handle_left()
        if kept is not answer:
            raise self._superseded()

    def finish(self, *, left: bool = False) -> Course[None]:
        """Called before the run's next step, at its end, and on closing: one who left after the last word has his
        answer. Events that are read here are kept for him, should he go on after all.
        """
        if self.over or not self.passing.answered or not (left or (self._is_left() and not self.is_read())):
            return
        self.finishing += 1
        try:
            outcome = yield Invoke(self.drain, optional=True)
        finally:
            self.finishing -= 1
        if self.passing.answered:
            yield from self.commit()
        if isinstance(outcome, Raised) and not isinstance(outcome.error, Exception):
            raise outcome.error

    def is_read(self) -> bool:
        """Whether somebody waits for its next chunk at this moment."""
        raise AssertionError

    def drain(self) -> Any:
        """Reads what is left of the stream, for ``DRAIN`` seconds at most. Each colour has its own."""
        raise AssertionError

    def give_up(self, why: str | None = None) -> None:
        """The stream ended, or was left, before its answer was complete: no step, and its money is unresolved.

        Args:
            why: what its reader may not have noticed.
        """
        if not self._settle():
            return
        self.call.unsettled = []  # its intent stands as unresolved
        after = "runs again on resume" if self.call.handle is None else "fetches its answer when it is called again"
        self.call.handle_left()
        self.call.attempt.journal.end(self.call.site.call)
        if why is not None:
            warnings.warn(
                f"{self.call.where}: the stream is not recorded, since {why}. What it cost is unresolved; the step "
                f"{after}.",
                UnrecordedCallWarning,
                stacklevel=stacklevel(),
            )

    def yield_slot(self) -> None:
        """Its step is called again: a reader who does that has left it, and must not wait for himself."""
        if not self.passing.answered and self._is_left():
            self.give_up()

    def _settle(self) -> bool:
        """Nothing more is to be done; whether that is new."""
        with self._taking:
            if self.over:
                return False
            self.over = True
        self.call.attempt.before_next_call.remove(self.finish)
        return True

    def _is_left(self) -> bool:
        """Whether nobody will read on: the caller is the reader himself, he is gone, or the run is being left."""
        thread, task = self.reader
        gone = task.done() if task is not None else not thread.is_alive()
        return gone or self.reader == _here() or self.call.attempt.leaving

    def _superseded(self) -> LeaseLost:
        return LeaseLost(
            f"{self.call.where}: another worker has taken the run over, and has recorded this step with another answer "
            "than the one that was streamed here. Stop here: the other worker goes on with it; what this one paid is "
            "booked as wasted.",
            run_id=self.call.attempt.run_id,
            step=self.call.site.slot,
        )


def _here() -> tuple[threading.Thread, asyncio.Task[Any] | None]:
    """The running thread and task: who reads."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.current_thread(), task


def make_way(call: ModelCall) -> None:
    """Ends a stream of the same slot that its reader has left: the call would wait for it in vain."""
    for finish in list(call.attempt.before_next_call):
        stream = getattr(finish, "__self__", None)
        if isinstance(stream, TeeBase) and stream.call.site.slot == call.site.slot:
            stream.yield_slot()

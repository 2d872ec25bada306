"""Streams as they pass by: live to the caller, kept aside, and committed before their last event is handed on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import warnings
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import UnrecordedCallWarning
from agentcheckpoint.flow import Course, Flow, Invoke, run_flow, run_flow_async
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.openai.calls import ModelCall, keep_answer, take_in
from agentcheckpoint.openai.sse import Passing
from agentcheckpoint.openai.usage import read_stream
from agentcheckpoint.store.store import Store

DRAIN = 2.0
"""Seconds to wait for the end of a stream that was left after its answer was complete."""


class _Tee:
    """What both colours share: the state of one stream, and the commit that its end brings."""

    def __init__(self, call: ModelCall, entry: LedgerEntry, response: httpx2.Response, store: Store) -> None:
        self.call, self.entry, self.response, self.store = call, entry, response, store
        self.passing = Passing(call.endpoint)
        self.waiting: deque[tuple[bytes, bool]] = deque()
        """Events that have come and were not handed on yet, each with whether it is the last."""
        self.reader: object = None
        """Who took the last event: only he can have left the stream."""
        self.over = False
        """Committed, or given up: nothing more is to be done."""
        call.attempt.before_next_call.append(self.finish)

    def commit(self) -> Flow[None]:
        """Stores the complete stream."""
        self.settle()
        said = read_stream(self.call.endpoint, self.passing.events)
        answer = Answer.of(self.response.status_code, self.response.headers.multi_items(), self.passing.body)
        yield from keep_answer(self.call, self.entry, answer, said)
        return None

    def finish(self) -> Course[None]:
        """Called before the run's next step, at its end, and on closing: one who left after the last word has his
        answer. Events that are read here are kept for him, should he go on after all.
        """
        if self.over or not self.passing.answered or self.reader != _here():
            return
        yield Invoke(self.drain, optional=True)
        if not self.over and self.passing.answered:
            yield from self.commit()

    def drain(self) -> Any:
        """Reads what is left of the stream, for ``DRAIN`` seconds at most. Each colour has its own."""
        raise AssertionError

    def settle(self) -> None:
        self.over = True
        if self.finish in self.call.attempt.before_next_call:
            self.call.attempt.before_next_call.remove(self.finish)

    def take(self, chunk: bytes) -> None:
        self.waiting.extend(self.passing.feed(chunk))

    def take_rest(self) -> None:
        rest = self.passing.rest()
        if rest:
            self.waiting.append((rest, self.passing.answered))

    def is_due(self, last: bool) -> bool:
        """Whether the stream must be committed before this event is handed on."""
        self.reader = _here()
        return last and not self.over

    def give_up(self, *, cut: bool) -> None:
        """The stream ended, or was left, before its answer was complete: no step, and its money is unresolved."""
        if self.over:
            return
        self.settle()
        self.call.unsettled = []  # its intent stands as unresolved
        self.call.attempt.journal.failed(self.call.site.call)
        if cut:
            warnings.warn(
                f"run {self.call.attempt.run_id!r}, step {self.call.site.slot!r}: the stream ended without its "
                "terminal event. It is not recorded; what it cost is unresolved. The step runs again on resume.",
                UnrecordedCallWarning,
                stacklevel=3,
            )


class Tee(_Tee, httpx2.SyncByteStream):
    """A stream of a blocking client."""

    def __init__(self, call: ModelCall, entry: LedgerEntry, response: httpx2.Response, store: Store) -> None:
        super().__init__(call, entry, response, store)
        self._chunks = response.iter_bytes()

    def __iter__(self) -> Iterator[bytes]:
        try:
            while True:
                while self.waiting:
                    event, last = self.waiting.popleft()
                    if self.is_due(last):
                        run_flow(self.store, self.commit())
                    yield event
                chunk = next(self._chunks, None)
                if chunk is not None:
                    self.take(chunk)
                elif not self.at_end():
                    return
        except GeneratorExit:
            raise
        except BaseException:
            self.give_up(cut=False)
            raise

    def at_end(self) -> bool:
        """No more comes: commits an answer that is complete. Returns whether there is still something to hand on."""
        self.take_rest()
        if self.passing.answered and not self.over:
            run_flow(self.store, self.commit())
        self.give_up(cut=True)
        return bool(self.waiting)

    def close(self) -> None:
        if not self.over:
            run_flow(self.store, self.finish())
        self.give_up(cut=False)
        self.response.close()

    def drain(self) -> None:
        """Reads in a thread, since a blocking read cannot be given up otherwise."""

        def read() -> None:
            try:
                for chunk in self._chunks:
                    self.take(chunk)
            except Exception:
                return

        if not self.passing.ended:
            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            reader.join(DRAIN)


class AsyncTee(_Tee, httpx2.AsyncByteStream):
    """A stream of an async client."""

    def __init__(self, call: ModelCall, entry: LedgerEntry, response: httpx2.Response, store: Store) -> None:
        super().__init__(call, entry, response, store)
        self._chunks = response.aiter_bytes()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                while self.waiting:
                    event, last = self.waiting.popleft()
                    if self.is_due(last):
                        await run_flow_async(self.store, self.commit())
                    yield event
                chunk = await anext(self._chunks, None)
                if chunk is not None:
                    self.take(chunk)
                elif not await self.at_end():
                    return
        except GeneratorExit:
            raise
        except BaseException:
            self.give_up(cut=False)
            raise

    async def at_end(self) -> bool:
        self.take_rest()
        if self.passing.answered and not self.over:
            await run_flow_async(self.store, self.commit())
        self.give_up(cut=True)
        return bool(self.waiting)

    async def aclose(self) -> None:
        if not self.over:
            await run_flow_async(self.store, self.finish())
        self.give_up(cut=False)
        await self.response.aclose()

    async def drain(self) -> None:
        async def read() -> None:
            async for chunk in self._chunks:
                self.take(chunk)

        if not self.passing.ended:
            with contextlib.suppress(TimeoutError, httpx2.HTTPError, httpx2.StreamError):
                await asyncio.wait_for(read(), DRAIN)


def _here() -> tuple[int, int]:
    """The running thread and task: who reads."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), id(task)


def receive(call: ModelCall, entry: LedgerEntry, response: httpx2.Response) -> Flow[httpx2.Response]:
    """Takes in the answer to a blocking client's request."""
    if not _is_stream(response):
        return (yield from take_in(call, entry, response.read, response))
    store = call.attempt.store
    assert store is not None
    return _passing_on(response, Tee(call, entry, response, store))


def receive_async(call: ModelCall, entry: LedgerEntry, response: httpx2.Response) -> Flow[httpx2.Response]:
    """Takes in the answer to an async client's request."""
    if not _is_stream(response):
        return (yield from take_in(call, entry, response.aread, response))
    store = call.attempt.store
    assert store is not None
    return _passing_on(response, AsyncTee(call, entry, response, store))


def _is_stream(response: httpx2.Response) -> bool:
    return str(response.headers.get("content-type", "")).startswith("text/event-stream")


def _passing_on(response: httpx2.Response, tee: Any) -> httpx2.Response:
    """The same response, its body passing through the tee; it is decoded already."""
    dropped = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(key, value) for key, value in response.headers.multi_items() if key.lower() not in dropped]
    return httpx2.Response(
        response.status_code, headers=headers, stream=tee, request=response.request, extensions=response.extensions
    )

"""Streams in both colours: live to the caller, kept aside, and committed before their last event is handed on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import httpx2

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.flow import Course, Flow, run_flow, run_flow_async
from agentcheckpoint.openai.collecting import collect
from agentcheckpoint.openai.line import Line
from agentcheckpoint.openai.modelcall import ModelCall
from agentcheckpoint.openai.sending import take_in
from agentcheckpoint.openai.sse import Passing
from agentcheckpoint.openai.tee import TeeBase
from agentcheckpoint.store.store import Store

DRAIN = 2.0
"""Seconds to wait for the end of a stream that was left after its answer was complete."""
_CUT = "it ended without its terminal event"


class Tee(TeeBase, httpx2.SyncByteStream):
    """A stream of a blocking client."""

    def __init__(self, call: ModelCall, entry: LedgerEntry, response: httpx2.Response, store: Store) -> None:
        super().__init__(call, entry, response, store)
        self._chunks = response.iter_bytes()
        self._reading = threading.Lock()
        """Held by the one who waits for the next chunk."""
        self._trouble: Exception | None = None
        self._drainer: threading.Thread | None = None
        self._close_due = False

    def finish(self, *, left: bool = False) -> Course[None]:
        try:
            yield from super().finish(left=left)
        finally:
            if self._close_due and not self.finishing:
                self._close_due = False
                self.close()

    def __iter__(self) -> Iterator[bytes]:
        try:
            while True:
                while self.waiting:
                    event, last = self.waiting.popleft()
                    if self.is_due(last):
                        run_flow(self.store, self.keep(last))
                    yield event
                if not self._read() and not self._at_end():
                    return
        except GeneratorExit:
            raise
        except BaseException:
            self.give_up()
            raise

    def _read(self) -> bool:
        """Takes in what comes next, if nobody else has meanwhile; whether there was anything."""
        with self._reading:
            if self.waiting:
                return True
            if self._trouble is not None:
                raise self._trouble
            chunk = next(self._chunks, None)
            if chunk is not None:
                self.take(chunk)
            return chunk is not None

    def _at_end(self) -> bool:
        """No more comes: commits an answer that is complete. Returns whether there is still something to hand on."""
        self.take_rest()
        if self.passing.answered:
            run_flow(self.store, self.commit())
        self.give_up(_CUT)
        return bool(self.waiting)

    def is_read(self) -> bool:
        return self._reading.locked()

    def drain(self) -> None:
        """Reads in a thread, since a blocking read cannot be given up otherwise."""
        if self._drainer is None and not self.passing.ended:
            self._drainer = threading.Thread(target=self._read_all, name="agentcheckpoint-drain", daemon=True)
            self._drainer.start()
        if self._drainer is not None:
            self._drainer.join(DRAIN)

    def _read_all(self) -> None:
        with self._reading:
            try:
                for chunk in self._chunks:
                    self.take(chunk)
            except Exception as exc:
                self._trouble = exc

    def close(self) -> None:
        if self.finishing:  # collected as garbage, perhaps by the very thread that reads its end or waits for it
            self._close_due = True
            return
        try:
            run_flow(self.store, self.finish(left=True))
        finally:
            self.give_up()
            if self._reading.locked():
                _hang_up(self.response)
            self.response.close()


def _hang_up(response: httpx2.Response) -> None:
    """Ends a read that another thread is still waiting in; a line of HTTP/2 has other readers."""
    network = response.extensions.get("network_stream") if response.http_version.startswith("HTTP/1") else None
    line = network.get_extra_info("socket") if network is not None else None
    if line is not None:
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)


class AsyncTee(TeeBase, httpx2.AsyncByteStream):
    """A stream of an async client."""

    def __init__(self, call: ModelCall, entry: LedgerEntry, response: httpx2.Response, store: Store) -> None:
        super().__init__(call, entry, response, store)
        self._chunks = response.aiter_bytes()
        self._reading = False
        self._drainer: asyncio.Task[None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                while self.waiting:
                    event, last = self.waiting.popleft()
                    if self.is_due(last):
                        await run_flow_async(self.store, self.keep(last))
                    yield event
                if not await self._read() and not await self._at_end():
                    return
        except GeneratorExit:
            raise
        except BaseException:
            self.give_up()
            raise

    async def _read(self) -> bool:
        if self._drainer is not None:
            await asyncio.wait({self._drainer})
            if self.waiting:
                return True
            self._drainer.result()
        self._reading = True
        try:
            chunk = await anext(self._chunks, None)
        finally:
            self._reading = False
        if chunk is not None:
            self.take(chunk)
        return chunk is not None

    def is_read(self) -> bool:
        return self._reading

    async def _at_end(self) -> bool:
        self.take_rest()
        if self.passing.answered:
            await run_flow_async(self.store, self.commit())
        self.give_up(_CUT)
        return bool(self.waiting)

    async def drain(self) -> None:
        """Reads in a task, which is not cancelled when the time is over: the reader may go on after all."""
        if self._drainer is None and not self.passing.ended and not self._reading:
            self._drainer = asyncio.ensure_future(self._read_all())
        if self._drainer is not None:
            await asyncio.wait({self._drainer}, timeout=DRAIN)

    async def _read_all(self) -> None:
        async for chunk in self._chunks:
            self.take(chunk)

    async def aclose(self) -> None:
        try:
            await run_flow_async(self.store, self.finish(left=True))
        finally:
            self.give_up()
            try:
                if self._drainer is not None:
                    self._drainer.cancel()
                    await asyncio.wait({self._drainer})
            finally:
                await self.response.aclose()


class Watch(httpx2.SyncByteStream):
    """A stream that is no step, of a blocking client."""

    def __init__(self, response: httpx2.Response, at_end: Callable[[Passing], Flow[None]], store: Store) -> None:
        self._response, self._at_end, self._store = response, at_end, store

    def __iter__(self) -> Iterator[bytes]:
        passing = Passing("responses")
        for chunk in self._response.iter_bytes():
            if _ends(passing, chunk):
                run_flow(self._store, self._at_end(passing))
            yield chunk

    def close(self) -> None:
        self._response.close()


class AsyncWatch(httpx2.AsyncByteStream):
    """A stream that is no step, of an async client."""

    def __init__(self, response: httpx2.Response, at_end: Callable[[Passing], Flow[None]], store: Store) -> None:
        self._response, self._at_end, self._store = response, at_end, store

    async def __aiter__(self) -> AsyncIterator[bytes]:
        passing = Passing("responses")
        async for chunk in self._response.aiter_bytes():
            if _ends(passing, chunk):
                await run_flow_async(self._store, self._at_end(passing))
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


def _ends(passing: Passing, chunk: bytes) -> bool:
    """Whether the terminal event comes with this chunk."""
    return not passing.ended and bool(passing.feed(chunk)) and passing.ended


def blocking_line(send: Callable[[httpx2.Request, bool], Any]) -> Line:
    """How a blocking client speaks HTTP."""
    return Line(send, httpx2.Response.read, httpx2.Response.close, _next_chunk, Tee, Watch)


def async_line(send: Callable[[httpx2.Request, bool], Any]) -> Line:
    """How an async client speaks HTTP."""
    return Line(send, httpx2.Response.aread, httpx2.Response.aclose, _anext_chunk, AsyncTee, AsyncWatch)


def _next_chunk(response: httpx2.Response) -> Callable[[], bytes | None]:
    return partial(next, response.iter_bytes(), None)


def _anext_chunk(response: httpx2.Response) -> Callable[[], Awaitable[bytes | None]]:
    return partial(anext, response.aiter_bytes(), None)


def receive(call: ModelCall, entry: LedgerEntry, response: httpx2.Response, line: Line) -> Flow[httpx2.Response]:
    """Takes in the answer to a call's request: as a stream that is handed on, or whole."""
    store = call.attempt.store
    if not is_event_stream(call, response) or store is None:
        return (yield from take_in(call, entry, response, line))
    if not call.stream:
        return (yield from collect(call, entry, response, line))
    return passing_on(response, line.tee(call, entry, response, store))


def is_event_stream(call: ModelCall, response: httpx2.Response) -> bool:
    """Some servers stream under other names than ``text/event-stream``; an error's body is JSON."""
    asked = call.stream or "stream" in call.added
    return asked and "json" not in str(response.headers.get("content-type", "")).lower()


def passing_on(response: httpx2.Response, tee: Any) -> httpx2.Response:
    """The same response, its body passing through the tee; it is decoded already."""
    dropped = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(key, value) for key, value in response.headers.multi_items() if key.lower() not in dropped]
    return httpx2.Response(
        response.status_code,
        headers=headers,
        stream=tee,
        request=response.request,
        extensions=response.extensions,
        history=response.history,
        default_encoding=response.default_encoding,
    )

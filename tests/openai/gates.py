"""Streams that go on only when a test says so: no test of what comes first needs a clock."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import httpx2

EVENTS = {"content-type": "text/event-stream"}


def chunk(text: str | None, finish: str | None = None) -> bytes:
    """One event of a chat stream."""
    delta = {} if text is None else {"content": text}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "demo-large",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


class Gate(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Sends as usual, and lets only the first event of each answer pass until ``open`` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self._inner, self._async_inner = httpx2.HTTPTransport(), httpx2.AsyncHTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._inner.handle_request(request)
        response.stream = _Gated(response.stream, self.open)
        return response

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._async_inner.handle_async_request(request)
        response.stream = _Gated(response.stream, self.open)
        return response


class _Gated(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, inner: Any, gate: threading.Event) -> None:
        self._inner, self._gate = inner, gate

    def __iter__(self) -> Iterator[bytes]:
        data = b"".join(self._inner)
        first = data.index(b"\n\n") + 2
        yield data[:first]
        assert self._gate.wait(60), "the first event was not handed on before the next one was read"
        yield data[first:]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        data = b"".join([part async for part in self._inner])
        first = data.index(b"\n\n") + 2
        yield data[:first]
        assert self._gate.is_set(), "the first event was not handed on before the next one was read"
        yield data[first:]

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


class Stalled:
    """A server that answers one request with the given events, and then says nothing until ``go_on`` is set."""

    def __init__(self, events: bytes, rest: bytes) -> None:
        self.go_on, self.hung_up = threading.Event(), threading.Event()
        self._events, self._rest = events, rest
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._thread.join(60)
        self._listening.close()

    def _serve(self) -> None:
        line, _ = self._listening.accept()
        with line:
            line.recv(65536)
            line.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + self._events
            )
            line.settimeout(0.02)
            while not self.go_on.is_set():
                try:
                    if not line.recv(1):
                        self.hung_up.set()
                        return
                except TimeoutError:
                    continue
                except OSError:
                    self.hung_up.set()
                    return
            line.sendall(self._rest)

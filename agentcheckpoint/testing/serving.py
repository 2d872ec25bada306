"""The loopback provider's HTTP: one thread for each connection, kept alive over many requests."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from agentcheckpoint.testing.brain import Answer
from agentcheckpoint.testing.desk import Desk
from agentcheckpoint.testing.payments import encode
from agentcheckpoint.testing.shelf import Reply


class Exchange(BaseHTTPRequestHandler):
    """One connection of one client, kept alive over many requests."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "loopback", ""
    # Small writes leave at once: neither Nagle's algorithm nor one packet for each header line.
    disable_nagle_algorithm = True
    wbufsize = -1

    def __init__(self, desk: Desk, *rest: Any) -> None:
        self._desk = desk
        super().__init__(*rest)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._send(self._desk.get(self.path), time.perf_counter())

    def do_DELETE(self) -> None:
        self._send(self._desk.delete(urlsplit(self.path).path), time.perf_counter())

    def do_POST(self) -> None:
        began = time.perf_counter()
        length = self.headers.get("content-length", "")
        raw = self.rfile.read(int(length)) if length.isdigit() else None
        if raw is None or len(raw) < int(length):
            self.close_connection = True  # the client died while it sent, or named no length: nothing was asked
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self._desk.post(urlsplit(self.path).path, headers, raw)
        if reply.answer.delay:
            self._desk.closing.wait(reply.answer.delay)
        if reply.answer.drop or self._desk.closing.is_set():
            self.close_connection = True
            return
        self._send(reply, began)

    def _send(self, reply: Reply, began: float) -> None:
        self.send_response(reply.answer.status)
        self.send_header("content-type", "application/json" if reply.events is None else "text/event-stream")
        self.send_header("x-request-id", reply.request_id)
        self.send_header("openai-processing-ms", str(int((time.perf_counter() - began) * 1000)))
        self.send_header("openai-version", "2020-10-01")
        if reply.answer.retry_after is not None:
            self.send_header("retry-after", reply.answer.retry_after)
        if reply.events is not None:
            self.send_header("transfer-encoding", "chunked")
            if reply.answer.cut_clean:  # a client that took the end for one would send its next request on this line
                self.send_header("connection", "close")
            self.end_headers()
            self._stream(reply.events, reply.answer)
            return
        body = encode(reply.body)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: tuple[bytes, ...], answer: Answer) -> None:
        cut = answer.cut_after is not None and answer.cut_after <= len(events)
        for index, event in enumerate(events[: answer.cut_after]):
            if index and answer.chunk_delay:
                self.wfile.flush()
                self._desk.closing.wait(answer.chunk_delay)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        if answer.cut_clean or not cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = self.close_connection or cut


class Server(ThreadingHTTPServer):
    """Knows its connections, so that it can close them; a client that goes away is no event."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, *rest: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*rest)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

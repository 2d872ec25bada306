"""Stands between a worker and the servers that it talks to, knows each message, and makes the planned faults happen.

One loop in one process that has no threads: workers are forked from it.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ends import command_name, http_end, reply_end
from .lives import HURRY
from .scenario import Fault

GIVEN_UP = 0.03
"""Seconds after its sender has given it up that a late command, or a late answer, goes on."""
LONGEST = 20.0
"""Seconds that it is held back if nobody gives it up."""
PATIENCE = 60.0
"""Seconds after which a worker that has not ended is stuck."""
GREETING = "CLIENT"
"""The commands by which redis-py says who connects, on each new connection; no others are called so."""


@dataclass(eq=False)
class Line:
    """One connection of the worker's, and ours to its server."""

    place: str
    client: socket.socket
    server: socket.socket
    asked: bytearray = field(default_factory=bytearray)
    told: bytearray = field(default_factory=bytearray)
    sent: int = 0
    answered: int = 0
    greets: bool = True
    """Its greeting is counted."""
    strike: tuple[int, Fault] | None = None
    """At this answer the fault happens."""
    hold_until: float = 0.0
    held: bytearray = field(default_factory=bytearray)
    """Answers that are held back."""
    late: bool = False
    """Commands are held back, and sent when ``hold_until`` is over, whether or not the worker still waits."""
    hung_up: bool = False


class Relay:
    """One worker's lines, life after life.

    Args:
        directory: where its socket is made.
        server: the path of the Redis server's socket.
        provider: the provider's port on loopback.
    """

    def __init__(self, directory: Path, server: str, provider: int) -> None:
        self._server, self._provider = server, provider
        self._redis = socket.socket(socket.AF_UNIX)
        self._redis.bind(str(directory / "relay"))
        self._http = socket.create_server(("127.0.0.1", 0))
        self.url = f"unix://{directory / 'relay'}"
        self.base_url = f"http://127.0.0.1:{self._http.getsockname()[1]}/v1"
        self._select = selectors.DefaultSelector()
        for listener, place in ((self._redis, "r"), (self._http, "h")):
            listener.listen(64)
            self._select.register(listener, selectors.EVENT_READ, (self._accept, place))
        self.trace: list[str] = []
        self.count = {"r": 0, "h": 0}
        """How many messages have passed since the last fault."""

    def watch(
        self,
        pid: int,
        plan: list[Fault],
        has_threads: bool = False,
        goes_on: bool = False,
        cancel: Callable[[], object] = bool,
    ) -> int:
        """Relays until the worker has ended and all that it sent has been answered.

        Args:
            plan: the faults that are due, in their order; those that happen are taken off.
            has_threads: only the greeting of the worker's first connection to Redis is counted: how many more it opens
                depends on how its threads overlap, and the same count must come to the same commands in each life.
            goes_on: it goes on where the one before it waited: the count goes on too.
            cancel: asks for the run's end, as somebody else does.

        Returns:
            The worker's exit code, as ``os.waitstatus_to_exitcode`` has it.
        """
        self._pid, self._plan, self._lines, self._killed = pid, plan, list[Line](), False
        self._has_threads, self._greeted = has_threads, False
        self._cancel = cancel
        if not goes_on:
            self.count = {"r": 0, "h": 0}
        alive = os.pidfd_open(pid)
        self._select.register(alive, selectors.EVENT_READ, (None, None))
        stuck_at, dead = time.monotonic() + PATIENCE, False
        try:
            while not dead or (any(map(_owed, self._lines)) and time.monotonic() < stuck_at):
                for key, _ in self._select.select(0.01 if dead or any(map(_holding, self._lines)) else 1):
                    act, what = key.data
                    if act is None:
                        dead = True
                        self._select.unregister(alive)
                    elif not isinstance(what, Line) or what in self._lines:  # not dropped a moment ago
                        act(what, key.fileobj)
                self._release()
                if time.monotonic() > stuck_at and not dead:
                    self._kill()
                    self.trace.append("stuck")
        finally:
            os.close(alive)
            for line in list(self._lines):
                self._drop(line)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def close(self) -> None:
        for listener in (self._redis, self._http):
            listener.close()
        self._select.close()

    # -- from the worker ------------------------------------------------------------------------------------------

    def _accept(self, place: str, listener: socket.socket) -> None:
        client, _ = listener.accept()
        if place == "r":
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
        else:
            server = socket.create_connection(("127.0.0.1", self._provider))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(place, client, server)
        if place == "r":
            line.greets = not (self._has_threads and self._greeted)
            self._greeted = True
        self._lines.append(line)
        self._select.register(client, selectors.EVENT_READ, (self._asked, line))
        self._select.register(server, selectors.EVENT_READ, (self._told, line))

    def _asked(self, line: Line, client: socket.socket) -> None:
        data = _read(client)
        if not data:
            line.hung_up = True
            line.hold_until = line.hold_until and time.monotonic() + GIVEN_UP
            self._select.unregister(client)
            if not _owed(line):
                self._drop(line)
            return
        line.asked += data
        if line.hold_until - LONGEST + HURRY < time.monotonic():  # given up, and used again
            line.hold_until = min(line.hold_until, time.monotonic() + GIVEN_UP)
        if not line.late and line.strike is None:
            self._forward(line)

    def _forward(self, line: Line) -> None:
        """Sends on what is whole, up to the message that a fault is planned for."""
        end_of: Callable[[bytearray], int | None] = reply_end if line.place == "r" else http_end
        out = bytearray()
        while (end := end_of(line.asked)) is not None:
            message = bytes(line.asked[:end])
            fault = None if not line.greets and command_name(message) == GREETING else self._due(line.place)
            if fault is not None:
                if line.place == "r":
                    self.trace.append(f"{fault} at {command_name(message)}")
                _send(line.server, out)
                if fault.fate != "cancel":
                    self._strike(line, fault, message)
                    return
                out.clear()
                self._cancel()
            del line.asked[:end]
            out += message
            line.sent += 1
        _send(line.server, out)

    def _due(self, place: str) -> Fault | None:
        self.count[place] += 1
        if self._killed or not self._plan or (self._plan[0].place, self._plan[0].n) != (place, self.count[place]):
            return None
        self.count = {"r": 0, "h": 0}
        return self._plan.pop(0)

    def _strike(self, line: Line, fault: Fault, message: bytes) -> None:
        where = fault.fate.rpartition("-")[2]
        if where == "before" or (where == "inside" and line.place == "r"):
            if where == "inside":
                _send(line.server, message[: len(message) // 2])
            if _owed(line):  # what came before it is applied first, so that nobody looks too early
                line.strike = (line.sent, fault)
            else:
                self._end(line, fault)
            return
        if fault.fate == "late":
            line.late, line.hold_until = True, time.monotonic() + LONGEST
            return
        del line.asked[: len(message)]
        line.sent += 1
        if fault.fate == "delay":
            line.hold_until = time.monotonic() + LONGEST
            _send(line.server, message)
            self._forward(line)
        else:
            line.strike = (line.sent, fault)
            _send(line.server, message)

    # -- from the server ------------------------------------------------------------------------------------------

    def _told(self, line: Line, server: socket.socket) -> None:
        data = _read(server)
        if not data:
            self._drop(line)
            return
        line.told += data
        end_of: Callable[[bytearray], int | None] = reply_end if line.place == "r" else http_end
        while (end := end_of(line.told)) is not None:
            answer = bytes(line.told[:end])
            del line.told[:end]
            line.answered += 1
            if line.strike is not None and line.answered == line.strike[0]:
                fault = line.strike[1]
                if fault.fate.endswith("inside") and line.place == "h":
                    _send(line.client, answer[: len(answer) // 2])
                    time.sleep(0.01)  # long enough for the worker to take it in
                self._end(line, fault)
                return
            line.held += answer
        if line.hold_until <= time.monotonic():
            _send(line.client, line.held)
            line.held.clear()
        if line.hung_up and not _owed(line):
            self._drop(line)

    def _release(self) -> None:
        """What was held back long enough goes on."""
        for line in list(self._lines):
            if not line.hold_until or line.hold_until > time.monotonic():
                continue
            line.hold_until = 0.0
            if line.late:
                line.late = False
                self._forward(line)
            _send(line.client, line.held)
            line.held.clear()
            if line.hung_up and not _owed(line):
                self._drop(line)

    # -- ends -----------------------------------------------------------------------------------------------------

    def _end(self, line: Line, fault: Fault) -> None:
        line.sent = line.answered
        if fault.deadly:
            self._kill()
        self._drop(line)

    def _kill(self) -> None:
        self._killed = True
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _drop(self, line: Line) -> None:
        if line not in self._lines:
            return
        self._lines.remove(line)
        for one in (line.client, line.server):
            with suppress(KeyError, ValueError):
                self._select.unregister(one)
            one.close()


def _owed(line: Line) -> bool:
    """Whether the server still has something to answer: what it does about it must be done before anybody looks."""
    return line.late or line.answered < line.sent


def _holding(line: Line) -> bool:
    return bool(line.hold_until)


def _read(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 18)
    except OSError:
        return b""


def _send(target: socket.socket, data: Any) -> None:
    if data:
        with suppress(OSError):
            target.sendall(data)

"""Strikes at the n-th EXEC that leaves this process, in either colour: before it, behind it, or after its reply."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.resp import pack
from agentcheckpoint.store.wire import AsyncWire, Wire

from .server_agent import Diary
from .servers import PATIENCE

Moment = Literal["before", "sent", "applied", "answered"]
"""Before it is sent; when it has just been sent; when its reply has come and nobody has read it; when it was read."""
MOMENTS: tuple[Moment, ...] = ("before", "sent", "applied", "answered")

_EXEC = b"$4\r\nEXEC\r\n"
_ENTRY = re.compile(rb'\{"v":1,"k":"\w+","id":"(\w+)"')


class Fuse:
    """Counts EXECs, writes down which log entries each carried, and strikes at one of them.

    Args:
        n: at which EXEC, from 1 on; 0 for none.
        moment: when.
        strike: what to do then.
        mend: what to do after the EXEC that was struck, if anything.
    """

    def __init__(
        self, diary: Diary, n: int, moment: Moment, strike: Callable[[], None], mend: Callable[[], None] | None = None
    ) -> None:
        self.moment = moment
        self.mend = mend or (lambda: None)
        self._diary, self._n, self._strike = diary, n, strike
        self._lock = threading.Lock()
        self._count = 0

    def meets(self, packet: bytes) -> bool:
        """Whether the n-th EXEC is in this packet."""
        execs, entries = packet.count(_EXEC), [found.decode() for found in _ENTRY.findall(packet)]
        if not execs:
            return False
        with self._lock:
            met = self._count < self._n <= self._count + execs
            self._count += execs
        self._diary.write("sent", execs, entries)
        if met:
            self._diary.write("struck", entries)
        return met

    def strike(self, moment: Moment) -> None:
        if moment == self.moment:
            self._strike()


@contextmanager
def armed(fuse: Fuse) -> Iterator[None]:
    """Inside, it counts and strikes."""
    exchange, send, receive = Wire.exchange, AsyncWire.send, AsyncWire.receive
    Wire.exchange = _blocking(exchange, fuse)  # type: ignore[method-assign]
    AsyncWire.send, AsyncWire.receive = _looped(send, receive, fuse)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Wire.exchange, AsyncWire.send, AsyncWire.receive = exchange, send, receive  # type: ignore[method-assign]


def _blocking(exchange: Any, fuse: Fuse) -> Any:
    def struck(wire: Wire, commands: Any) -> Any:
        if not fuse.meets(pack(commands)):
            return exchange(wire, commands)
        if fuse.moment in ("sent", "applied"):
            wire._connection.send_packed_command([pack(commands)], check_health=False)
            if fuse.moment == "applied":
                wire._connection.can_read(PATIENCE)
            fuse.strike(fuse.moment)
            wire.close()
            raise Lost("its reply was never read")
        fuse.strike("before")
        try:
            replies = exchange(wire, commands)
        finally:
            fuse.mend()
        fuse.strike("answered")
        return replies

    return struck


def _looped(send: Any, receive: Any, fuse: Fuse) -> tuple[Any, Any]:
    struck: list[AsyncWire] = []

    async def sending(wire: AsyncWire, packet: bytes) -> None:
        if not fuse.meets(packet):
            return await send(wire, packet)
        struck.append(wire)
        fuse.strike("before")
        await send(wire, packet)
        if fuse.moment not in ("sent", "applied"):
            return None
        while fuse.moment == "applied" and not await wire._connection.can_read():
            await asyncio.sleep(0.001)
        fuse.strike(fuse.moment)
        await wire.close()
        raise Lost("its reply was never read")

    async def receiving(wire: AsyncWire, count: int) -> Any:
        if wire not in struck:
            return await receive(wire, count)
        struck.remove(wire)
        try:
            replies = await receive(wire, count)
        finally:
            fuse.mend()
        fuse.strike("answered")
        return replies

    return sending, receiving

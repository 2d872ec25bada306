"""Strikes at the n-th EXEC that leaves this process, in either colour: before it, behind it, or after its reply."""

from __future__ import annotations

import re
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.parcels import Parcel
from agentcheckpoint.store.resp import pack
from agentcheckpoint.store.wire import Wire

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
    exchange, send, settle = Wire.exchange, AsyncWire.send, Parcel.settle
    Wire.exchange = _blocking(exchange, fuse)  # type: ignore[method-assign]
    AsyncWire.send, Parcel.settle = _looped(send, settle, fuse)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Wire.exchange, AsyncWire.send, Parcel.settle = exchange, send, settle  # type: ignore[method-assign]


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


def _looped(send: Any, settle: Any, fuse: Fuse) -> tuple[Any, Any]:
    struck: list[Parcel] = []

    def sending(wire: Any, parcels: Sequence[Parcel]) -> None:
        if not fuse.meets(b"".join(parcel.packet for parcel in parcels)):
            return send(wire, parcels)  # type: ignore[no-any-return]
        if fuse.moment in ("before", "answered"):
            struck.append(parcels[-1])
        fuse.strike("before")
        send(wire, parcels)
        if fuse.moment not in ("sent", "applied"):
            return None
        if fuse.moment == "applied":
            readable = select.poll()
            readable.register(wire._transport.get_extra_info("socket"), select.POLLIN)
            readable.poll(PATIENCE * 1000)
        fuse.strike(fuse.moment)
        wire._lose(Lost("its reply was never read"))
        return None

    def settling(parcel: Parcel, outcome: Any) -> None:
        if parcel in struck:
            struck.remove(parcel)
            fuse.mend()
            if not isinstance(outcome, Exception):
                fuse.strike("answered")
        settle(parcel, outcome)

    return sending, settling

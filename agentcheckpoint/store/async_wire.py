"""One proven connection of an event loop: as in ``wire.py``, it is used until its first error, and never again.

redis-py makes it, and proves it. Then its transport is taken over: bytes become replies as they come, without a task or
a stream between.
"""

from __future__ import annotations

import asyncio
import select
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis import exceptions as rx

from agentcheckpoint.store.effects import Command, Node, NotSent, Refusal, Reply
from agentcheckpoint.store.parcels import Parcel, fail
from agentcheckpoint.store.resp import Replies
from agentcheckpoint.store.wire import BROKEN, lost, plain, refusal


def take_over(connection: Any) -> AsyncWire:
    """The wire that a connection of redis-py, or of fakeredis, becomes.

    Raises:
        NotSent: the server has hung up, or has said what it was not asked.
    """
    reader: Any = connection._reader
    if not isinstance(reader, asyncio.StreamReader):
        return FakeWire(connection)
    writer, connection._reader, connection._writer = connection._writer, None, None
    unread: bytearray = reader._buffer  # type: ignore[attr-defined] # pyright: ignore[reportUnknownMemberType]
    if unread or reader.at_eof() or writer.transport.is_closing():
        writer.close()
        raise NotSent("the server hung up as soon as it was connected")
    return LoopWire(writer, connection.socket_timeout)


def _nobody() -> None:
    """Nobody is to be told."""


class AsyncWire(ABC):
    """What both kinds share: who waits for which replies."""

    def __init__(self) -> None:
        self._under_way: deque[Parcel] = deque()
        self._come: list[Reply] = []
        """Replies to the first of them, which has more to come."""
        self.dead = False
        """It was closed, or has lost what was under way."""
        self.refused = False
        """An error reply was among its replies."""
        self.node: Node | None = None
        """Which of several servers it leads to."""
        self.freed: Callable[[], None] = _nobody
        """Called when nothing is under way any more."""

    def stale(self) -> bool:
        """Whether the server has closed it meanwhile: found out before sending, that costs nothing."""
        return self.dead

    def send(self, parcels: Sequence[Parcel]) -> None:
        """Sends them in one write; nothing else is under way. Each is settled by its replies, or by ``Lost``."""
        self._under_way.extend(parcels)
        self._write(b"".join([parcel.packet for parcel in parcels]))

    async def exchange(self, commands: tuple[Command, ...]) -> list[Reply]:
        """Sends all commands in one write. Raises ``Lost``; the connection is closed then."""
        parcel = Parcel(commands)
        self.send([parcel])
        try:
            return await parcel.answered()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends it; what is under way is lost, and ``freed`` is not called any more."""
        self.dead = True
        self.freed = _nobody
        self._hang_up()

    @abstractmethod
    def _write(self, packet: bytes) -> None:
        """Begins to send it."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Closes the connection itself."""

    def _hand_out(self) -> None:
        """Gives the replies that have come to those who wait for them."""
        come, begin = self._come, 0
        self.refused = self.refused or Refusal in map(type, come)
        while self._under_way and (end := begin + self._under_way[0].count) <= len(come):
            self._under_way[0].settle(come[begin:end])
            self._under_way.popleft()
            begin = end
        del come[:begin]

    def _lose(self, exc: Exception) -> None:
        """It is broken: those who still wait are told."""
        waiting, self._under_way = self._under_way, deque()
        if not waiting:
            self._hang_up()
            return
        freed = self.freed
        self.close()
        fail(waiting, lost(exc))
        freed()


class LoopWire(AsyncWire, asyncio.Protocol):
    """A connection to a real server."""

    def __init__(self, writer: asyncio.StreamWriter, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        """Seconds in which the server has to take or say something, when it was asked something."""
        self._writer = writer  # it closes the transport when it is forgotten
        self._transport = writer.transport
        self._loop = asyncio.get_running_loop()
        self._replies = Replies()
        self._heard, self._unsent = 0.0, 0
        """When it was last heard of, and how many bytes it had not taken then."""
        self._watch: asyncio.TimerHandle | None = None
        self._readable: select.poll | None = None
        if self._transport.get_extra_info("ssl_object") is None:  # TLS says something now and then that is no reply
            self._readable = select.poll()
            self._readable.register(self._transport.get_extra_info("socket"), select.POLLIN)
        self._transport.set_protocol(self)

    def stale(self) -> bool:
        if self.dead or self._transport.is_closing():
            return True
        return self._readable is not None and bool(self._readable.poll(0))

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            if not self._under_way:
                raise ValueError("it says what it was not asked")
            self._replies.feed(data)
            self._replies.take_all(self._come)
        except ValueError as exc:
            self._lose(exc)
            return
        self._hand_out()
        if not self._under_way:
            if self._come or self._replies.has_more():
                self._hang_up()
            self.freed()

    def eof_received(self) -> None:
        self._lose(rx.ConnectionError("Connection closed by server."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc or rx.ConnectionError("Connection closed."))

    def _write(self, packet: bytes) -> None:
        self._heard = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(self.timeout, self._look)
        self._transport.write(packet)
        self._unsent = self._transport.get_write_buffer_size()

    def _look(self) -> None:
        """Whether the server has fallen silent. One timer serves many packets: to set one for each takes longer."""
        self._watch = None
        if not self._under_way:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._heard, self._unsent = self._loop.time(), unsent
        left = self._heard + self.timeout - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._lose(TimeoutError(f"no reply within {self.timeout:g} s"))

    def _hang_up(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport.get_write_buffer_size():  # the rest of a packet is not to follow
            self._transport.abort()
        else:
            self._transport.close()


class FakeWire(AsyncWire):
    """A connection to fakeredis, which has no transport: redis-py asks it."""

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self._connection = connection
        self._asking: asyncio.Task[None] | None = None

    def _write(self, packet: bytes) -> None:
        self._asking = asyncio.ensure_future(self._ask(packet))

    async def _ask(self, packet: bytes) -> None:
        try:
            await self._connection.send_packed_command(packet, check_health=False)
            while self._under_way:
                self._come.append(await self._read())
                self._hand_out()
        except BROKEN as exc:
            self._lose(exc)
        except BaseException:
            self._lose(rx.ConnectionError("the loop is ending"))
            raise
        else:
            self.freed()
        finally:
            self._asking = None  # a task refers to its loop, which could then never be freed

    async def _read(self) -> Reply:
        try:
            return plain(await self._connection.read_response(disconnect_on_error=False))
        except rx.ResponseError as exc:
            return refusal(exc)

    def _hang_up(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._connection._close()

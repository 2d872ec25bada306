"""One proven connection to the server, in both colours: whole packets out, exactly their replies in.

redis-py connects again by itself on the next send after an error, and a claim then runs without its WATCH. So an object
here is used until its first error, time-out or cancellation, and never again; and redis-py's own retries are off.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterable, Sequence
from typing import Any, cast

from redis import exceptions as rx
from redis._parsers import _AsyncRESP2Parser, _RESP2Parser  # pyright: ignore[reportPrivateUsage]

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.effects import Command, Lost, Node, NotSent, Refusal, Reply
from agentcheckpoint.store.resp import UNFINISHED, Replies, pack, refusal_of


class Parser(_RESP2Parser):
    """Hands each error reply over as a reply: redis-py raises some (LOADING) as broken connections, in mid-packet."""

    @classmethod
    def parse_error(cls, response: str) -> rx.ResponseError:
        return rx.ResponseError(response)


class AsyncParser(_AsyncRESP2Parser):
    """The same for a loop's connection."""

    @classmethod
    def parse_error(cls, response: str) -> rx.ResponseError:
        return rx.ResponseError(response)


def _plain(reply: Any) -> Reply:
    """The reply with redis-py's error objects made refusals, inside an array too."""
    if isinstance(reply, list):
        return [_plain(item) for item in cast("Iterable[Any]", reply)]
    return _refusal(reply) if isinstance(reply, rx.RedisError) else reply


def _refusal(exc: rx.RedisError) -> Refusal:
    code = getattr(exc, "status_code", None)
    if isinstance(code, str):  # fakeredis names it apart
        return Refusal(code, str(exc).removeprefix(f"{code} "))
    return refusal_of(str(exc))


def connect_error(exc: Exception) -> Exception:
    """What a failed connect means: a refusal that stays, or nothing sent."""
    said = exc.__cause__ if isinstance(exc.__cause__, rx.ResponseError) else exc  # wrapped on asyncio's Unix sockets
    if isinstance(said, rx.ResponseError | rx.AuthenticationError | rx.InvalidResponse):
        why = _refusal(said)
        if why.code != "LOADING" and "max number of clients" not in why.text:
            advice = "Check user name, password and database in the URL (redis://USER:PASSWORD@host/0)."
            return StoreRefused(f"The server refused the connection: {why}. Nothing was sent. {advice}")
    return NotSent(f"{type(exc).__name__}: {exc}", timed_out=_is_timeout(exc))


def _lost(exc: Exception) -> Lost:
    return Lost(f"{type(exc).__name__}: {exc}", timed_out=_is_timeout(exc))


def _is_timeout(exc: BaseException | None) -> bool:
    """Whether a time-out is at the bottom of it: on asyncio's Unix sockets redis-py wraps it."""
    return exc is not None and (isinstance(exc, rx.TimeoutError | TimeoutError) or _is_timeout(exc.__cause__))


def _clean_after(commands: Sequence[Command], replies: Sequence[Reply], before: bool) -> bool:
    """Whether no WATCH or MULTI is left on the connection: EXEC ends both, unless it was refused."""
    last = -2 if commands[-1][0] == "WAIT" and len(commands) > 1 else -1
    if commands[last][0] == "EXEC":
        return not isinstance(replies[last], Refusal)
    return before and all(command[0] != "WATCH" for command in commands)


_CHUNK = 1 << 17
"""Bytes to read at a time."""
_BROKEN = (rx.RedisError, OSError, ValueError)
"""What is raised when a connection breaks, or answers what is no reply."""


class Wire:
    """A blocking connection.

    redis-py makes it. What has a socket is read here: redis-py's way to a reply takes longer than to decode a whole
    commit's. fakeredis has none.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket: socket.socket | None = None
        self._replies = Replies()
        self._readable = select.poll()
        self.dead = False
        self.node: Node | None = None
        """Which of several servers it leads to."""
        self.clean = True
        """No WATCH is set on it: it may be lent to another."""
        if isinstance(made := getattr(connection, "_sock", None), socket.socket):
            self._socket = made
            self._readable.register(made, select.POLLIN)

    def stale(self) -> bool:
        """Whether the server has closed it meanwhile: found out before sending, that costs nothing."""
        try:
            if type(self._socket) is socket.socket:
                return bool(self._readable.poll(0))
            return bool(self._connection.can_read(0))  # TLS says something now and then that is no reply
        except Exception:
            return True

    def exchange(self, commands: tuple[Command, ...]) -> list[Reply]:
        """Sends all commands in one write and reads as many replies.

        Raises:
            Lost: the connection broke after the first byte; it is closed, as after anything else that is raised.
        """
        packet = pack(commands)
        try:
            if self._socket is not None:
                self._socket.sendall(packet)
            else:
                self._connection.send_packed_command([packet], check_health=False)
            replies = [self._read() for _ in commands]
        except _BROKEN as exc:
            self.close()
            raise _lost(exc) from exc
        except BaseException:
            self.close()
            raise
        self.clean = _clean_after(commands, replies, self.clean)
        return replies

    def _read(self) -> Reply:
        if self._socket is None:
            try:
                return _plain(self._connection.read_response(disconnect_on_error=False))
            except rx.ResponseError as exc:
                return _refusal(exc)
        while (reply := self._replies.take()) is UNFINISHED:
            self._replies.feed(_some(self._socket.recv(_CHUNK)))
        return reply

    def close(self) -> None:
        self.dead = True
        try:
            self._connection.disconnect()
        except Exception:
            return


class AsyncWire:
    """A connection of one event loop; read here as ``Wire`` is."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._reader: asyncio.StreamReader | None = None
        self._writer: Any = getattr(connection, "_writer", None)
        self._replies = Replies()
        self.dead = False
        self.node: Node | None = None
        if isinstance(made := getattr(connection, "_reader", None), asyncio.StreamReader):
            self._reader = made

    async def stale(self) -> bool:
        try:
            return bool(await self._connection.can_read())
        except Exception:
            return True

    async def send(self, packet: bytes) -> None:
        """Raises ``Lost`` when the connection breaks; it is closed then, as after anything else that is raised."""
        try:
            if self._reader is None:
                await self._connection.send_packed_command(packet, check_health=False)
                return
            self._writer.write(packet)
            if self._writer.transport.get_write_buffer_size():  # not all of it has left at once
                async with asyncio.timeout(self._connection.socket_timeout):
                    await self._writer.drain()
        except _BROKEN as exc:
            await self.close()
            raise _lost(exc) from exc
        except BaseException:
            await self.close()
            raise

    async def receive(self, count: int) -> list[Reply]:
        """Reads so many replies. Raises ``Lost`` like ``send``."""
        try:
            return [await self._read() for _ in range(count)]
        except _BROKEN as exc:
            await self.close()
            raise _lost(exc) from exc
        except BaseException:
            await self.close()
            raise

    async def _read(self) -> Reply:
        if self._reader is None:
            try:
                return _plain(await self._connection.read_response(disconnect_on_error=False))
            except rx.ResponseError as exc:
                return _refusal(exc)
        while (reply := self._replies.take()) is UNFINISHED:
            async with asyncio.timeout(self._connection.socket_timeout):
                self._replies.feed(_some(await self._reader.read(_CHUNK)))
        return reply

    async def exchange(self, commands: tuple[Command, ...]) -> list[Reply]:
        await self.send(pack(commands))
        return await self.receive(len(commands))

    async def close(self) -> None:
        self.dead = True
        try:
            async with asyncio.timeout(1):  # wait_for of Python 3.11 loses a cancellation that comes at its end
                await self._connection.disconnect(nowait=True)
        except Exception:
            return


def _some(data: bytes) -> bytes:
    """What was read; nothing means that the server has hung up."""
    if not data:
        raise rx.ConnectionError("Connection closed by server.")
    return data

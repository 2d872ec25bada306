"""One proven connection to the server, in both colours: whole packets out, exactly their replies in.

redis-py connects again by itself on the next send after an error, and a claim then runs without its WATCH. So an object
here is used until its first error, time-out or cancellation, and never again; and redis-py's own retries are off.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Sequence
from typing import Any, cast

from redis import exceptions as rx
from redis._parsers import _AsyncRESP2Parser, _RESP2Parser  # pyright: ignore[reportPrivateUsage]

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.effects import Command, Lost, Node, NotSent, Refusal, Reply
from agentcheckpoint.store.resp import Replies, pack, refusal_of


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


def plain(reply: Any) -> Reply:
    """The reply with redis-py's error objects made refusals, inside an array too."""
    if isinstance(reply, list):
        return [plain(item) for item in cast("Iterable[Any]", reply)]
    return refusal(reply) if isinstance(reply, rx.RedisError) else reply


def refusal(exc: rx.RedisError) -> Refusal:
    code = getattr(exc, "status_code", None)
    if isinstance(code, str):  # fakeredis names it apart
        return Refusal(code, str(exc).removeprefix(f"{code} "))
    return refusal_of(str(exc))


def connect_error(exc: Exception) -> Exception:
    """What a failed connect means: a refusal that stays, or nothing sent."""
    said = exc.__cause__ if isinstance(exc.__cause__, rx.ResponseError) else exc  # wrapped on asyncio's Unix sockets
    if isinstance(said, rx.ResponseError | rx.AuthenticationError | rx.InvalidResponse):
        why = refusal(said)
        if why.code != "LOADING" and "max number of clients" not in why.text:
            advice = "Check user name, password and database in the URL (redis://USER:PASSWORD@host/0)."
            return StoreRefused(f"The server refused the connection: {why}. Nothing was sent. {advice}")
    return NotSent(f"{type(exc).__name__}: {exc}", timed_out=_is_timeout(exc))


def lost(exc: Exception) -> Lost:
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
BROKEN = (rx.RedisError, OSError, ValueError)
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
            replies = self._read(len(commands))
        except BROKEN as exc:
            self.close()
            raise lost(exc) from exc
        except BaseException:
            self.close()
            raise
        self.clean = _clean_after(commands, replies, self.clean)
        return replies

    def _read(self, count: int) -> list[Reply]:
        if self._socket is None:
            return [self._read_one() for _ in range(count)]
        come: list[Reply] = []
        while len(come) < count:
            self._replies.feed(_some(self._socket.recv(_CHUNK)))
            self._replies.take_all(come)
        if len(come) > count or self._replies.has_more():  # it says what it was not asked
            self.close()
        return come[:count]

    def _read_one(self) -> Reply:
        try:
            return plain(self._connection.read_response(disconnect_on_error=False))
        except rx.ResponseError as exc:
            return refusal(exc)

    def close(self) -> None:
        self.dead = True
        try:
            self._connection.disconnect()
        except Exception:
            return


def _some(data: bytes) -> bytes:
    """What was read; nothing means that the server has hung up."""
    if not data:
        raise rx.ConnectionError("Connection closed by server.")
    return data

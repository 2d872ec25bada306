"""One proven connection to the server, in both colours: whole packets out, exactly their replies in.

redis-py connects again by itself on the next send after an error, and a claim then runs without its WATCH. So an object
here is used until its first error, time-out or cancellation, and never again; and redis-py's own retries are off.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis import exceptions as rx

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.effects import Command, Lost, NotSent, Refusal, Reply

_PERMANENT = (rx.AuthenticationError, rx.AuthorizationError, rx.NoPermissionError, rx.InvalidResponse)


def _refusal(exc: rx.RedisError) -> Refusal | None:
    """The server's own words, if this exception is an error reply and not a broken connection."""
    code = getattr(exc, "status_code", None)
    if isinstance(code, str):
        return Refusal(code, str(exc))
    if isinstance(exc, rx.ResponseError):
        word, _, rest = str(exc).partition(" ")
        return Refusal(word, rest) if word.isupper() else Refusal("ERR", str(exc))
    return None


def _plain(reply: Any) -> Reply:
    """Error replies inside an array become refusals too."""
    if isinstance(reply, list):
        return [_plain(item) for item in reply]
    if isinstance(reply, rx.RedisError):
        return _refusal(reply) or Refusal("ERR", str(reply))
    return reply


def connect_error(exc: Exception) -> Exception:
    """What a failed connect means: a refusal that stays, or nothing sent."""
    if isinstance(exc, _PERMANENT) or (isinstance(exc, rx.ResponseError) and not isinstance(exc, rx.BusyLoadingError)):
        why = _refusal(exc) or Refusal("ERR", str(exc))
        advice = "Check user name and password in the URL (redis://USER:PASSWORD@host)."
        return StoreRefused(f"The server refused the connection: {why}. Nothing was sent. {advice}")
    return NotSent(f"{type(exc).__name__}: {exc}")


def _leaves_clean(commands: tuple[Command, ...], before: bool) -> bool:
    if commands[-1][0] == "EXEC":
        return True
    return before and all(command[0] != "WATCH" for command in commands)


class Wire:
    """A blocking connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dead = False
        self.clean = True
        """No WATCH is set on it: it may be lent to another."""

    def stale(self) -> bool:
        """Whether the server has closed it meanwhile: found out before sending, that costs nothing."""
        try:
            return bool(self._connection.can_read(0))
        except Exception:
            return True

    def exchange(self, commands: tuple[Command, ...]) -> list[Reply]:
        """Sends all commands in one write and reads as many replies.

        Raises:
            Lost: anything went wrong after the first byte; the connection is closed.
        """
        packet = b"".join(self._connection.pack_commands(commands))
        self.clean = _leaves_clean(commands, self.clean)
        replies: list[Reply] = []
        try:
            self._connection.send_packed_command([packet], check_health=False)
            for _ in commands:
                replies.append(self._read())
        except rx.RedisError as exc:
            self.close()
            raise Lost(f"{type(exc).__name__}: {exc}") from exc
        except BaseException:
            self.close()
            raise
        return replies

    def _read(self) -> Reply:
        try:
            return _plain(self._connection.read_response(disconnect_on_error=False))
        except rx.ResponseError as exc:
            return _plain(exc)

    def close(self) -> None:
        self.dead = True
        try:
            self._connection.disconnect()
        except Exception:
            return


class AsyncWire:
    """A connection of one event loop."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dead = False
        self.clean = True

    async def stale(self) -> bool:
        try:
            return bool(await self._connection.can_read())
        except Exception:
            return True

    def pack(self, commands: tuple[Command, ...]) -> bytes:
        return b"".join(self._connection.pack_commands(commands))

    async def send(self, packet: bytes) -> None:
        """Raises ``Lost`` when anything goes wrong; the connection is closed then."""
        try:
            await self._connection.send_packed_command(packet, check_health=False)
        except (rx.RedisError, OSError) as exc:
            await self.close()
            raise Lost(f"{type(exc).__name__}: {exc}") from exc
        except BaseException:
            await self.close()
            raise

    async def receive(self, count: int) -> list[Reply]:
        """Reads so many replies. Raises ``Lost`` like ``send``."""
        replies: list[Reply] = []
        try:
            for _ in range(count):
                try:
                    replies.append(_plain(await self._connection.read_response(disconnect_on_error=False)))
                except rx.ResponseError as exc:
                    replies.append(_plain(exc))
        except (rx.RedisError, OSError) as exc:
            await self.close()
            raise Lost(f"{type(exc).__name__}: {exc}") from exc
        except BaseException:
            await self.close()
            raise
        return replies

    async def exchange(self, commands: tuple[Command, ...]) -> list[Reply]:
        self.clean = _leaves_clean(commands, self.clean)
        await self.send(self.pack(commands))
        return await self.receive(len(commands))

    async def close(self) -> None:
        self.dead = True
        try:
            await asyncio.wait_for(self._connection.disconnect(nowait=True), 1)
        except Exception:
            return

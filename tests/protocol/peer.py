"""A server that says what a test wants, and a store that is connected to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import hiredis

from agentcheckpoint.store.dial import dial_url
from agentcheckpoint.store.store import Store

Serve = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side of one connection, once the client has introduced itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer
        self._parser = hiredis.Reader()

    async def asked(self) -> list[bytes]:
        """The next command; ``[]``: the client has hung up."""
        while (command := self._parser.gets()) is False:
            if not (data := await self.reader.read(1 << 16)):
                return []
            self._parser.feed(data)
        return command  # type: ignore[no-any-return]

    async def say(self, text: bytes) -> None:
        self._writer.write(text)
        await self._writer.drain()

    def hang_up(self) -> None:
        self._writer.close()

    async def greet(self) -> bool:
        """Answers what redis-py says first; whether something was asked behind that."""
        while (command := await self.asked()) and command[0] in (b"CLIENT", b"HELLO", b"SELECT"):
            await self.say(b"+OK\r\n")
        return bool(command)


@asynccontextmanager
async def served(directory: Path, *serves: Serve) -> AsyncIterator[Store]:
    """A store whose first connection is served by the first of them from its first question on, and so on."""
    left = list(serves)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        if await peer.greet():
            await left.pop(0)(peer)
        writer.close()

    server = await asyncio.start_unix_server(connected, directory / "socket", limit=1 << 20)
    store = Store(dial_url(f"unix://{directory}/socket"))
    store.loop_driver().retain()
    try:
        yield store
    finally:
        store.loop_driver().release()
        server.close()

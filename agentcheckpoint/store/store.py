"""A store: where runs are kept. Runs the protocol's generators in whichever colour the caller has."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING

from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.drivers import LoopDriver, ThreadDriver
from agentcheckpoint.store.effects import Protocol, T

if TYPE_CHECKING:
    from agentcheckpoint.store.health import Health


class Store:
    """A place where runs are kept; made by ``agentcheckpoint.connect``.

    Attributes:
        name: what the server is called in messages: its URL without the password.
        health: what the server's settings mean for the promise, as read when it was connected; ``None`` if unread.
    """

    def __init__(self, dial: Dial, health: Health | None = None) -> None:
        self.name = dial.name
        self.health = health
        self._dial = dial
        self._threads = ThreadDriver(dial)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopDriver] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def run(self, protocol: Protocol[T]) -> T:
        """Runs a protocol generator, blocking."""
        return self._threads.run(protocol)

    async def run_async(self, protocol: Protocol[T]) -> T:
        """Runs a protocol generator on the running loop."""
        return await self.loop_driver().run(protocol)

    def loop_driver(self) -> LoopDriver:
        """The driver of the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            driver = self._loops.get(loop)
            if driver is None:
                driver = self._loops[loop] = LoopDriver(self._dial)
            return driver

    def close(self) -> None:
        """Closes idle connections. The store can be used again."""
        self._threads.close()

    def __repr__(self) -> str:
        return f"<agentcheckpoint.Store {self.name}>"

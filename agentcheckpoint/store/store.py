"""A store: where runs are kept. Runs the protocol's generators in whichever colour the caller has."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING

from agentcheckpoint.errors import StoreUnavailable
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Node, NotSent, Protocol, T
from agentcheckpoint.store.loop_driver import LoopDriver
from agentcheckpoint.store.thread_driver import ThreadDriver

if TYPE_CHECKING:
    from agentcheckpoint.errors import DurabilityWarning
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

    def run(self, protocol: Protocol[T]) -> T:
        """Runs a protocol generator, blocking."""
        return self._threads.run(protocol)

    async def run_async(self, protocol: Protocol[T]) -> T:
        """Runs a protocol generator on the running loop."""
        return await self.loop_driver().run(protocol)

    def loop_driver(self) -> LoopDriver:
        """The driver of the running event loop."""
        loop = asyncio.get_running_loop()
        driver = self._loops.get(loop)
        if driver is None:  # no lock: nobody but this loop's own thread asks for this loop
            driver = self._loops[loop] = LoopDriver(self._dial)
        return driver

    def servers(self) -> tuple[Node | None, ...]:
        """The servers that take writes, as they are now; ``None``: the only one.

        Raises:
            StoreUnavailable: nobody says which they are.
            StoreRefused.
        """
        if self._dial.routes is None:
            return (None,)
        try:
            self._threads.run(self._dial.routes.look())
        except NotSent as exc:
            raise StoreUnavailable(f"{self.name}: {exc}. Are the servers up, and is the URL right?") from exc
        return self._dial.routes.primaries

    @property
    def replicas(self) -> int:
        """How many replicas each write waits for."""
        return 0 if self._dial.replicas is None else self._dial.replicas.count

    def shortfall(self) -> DurabilityWarning | None:
        """What is to be said, once, about replicas that have not acknowledged the last writes."""
        return None if self._dial.replicas is None else self._dial.replicas.shortfall()

    def close(self) -> None:
        """Closes idle connections. The store can be used again."""
        self._threads.close()

    def __repr__(self) -> str:
        return f"<agentcheckpoint.Store {self.name}>"

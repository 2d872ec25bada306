"""One connection that the callers of a loop share: what is ready together leaves in one write.

It belongs to no caller: what one of them has sent is settled by what comes, even if all of them are cancelled.
"""

from __future__ import annotations

import asyncio

from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.caller import Caller
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Lost, Node, NotSent, Packet, Reply
from agentcheckpoint.store.parcels import Parcel, fail


class Lane:
    """The shared connection to one server; with only one packet there is no wait."""

    def __init__(self, dial: Dial, node: Node | None) -> None:
        self._dial = dial
        self._node = node
        self._queue: list[Parcel] = []
        self._busy = False
        """A packet is under way, or about to leave: what comes now goes with the next."""
        self._opening: asyncio.Task[None] | None = None
        self.wire: AsyncWire | None = None

    async def submit(self, packet: Packet, caller: Caller) -> list[Reply]:
        """The replies to a packet, sent with whatever else is ready. Raises ``NotSent``, ``Lost``, ``StoreRefused``."""
        parcel = Parcel(packet.commands, packet.patience)
        self._queue.append(parcel)
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._leave)
        return await parcel.answered(caller)

    def _leave(self) -> None:
        """All that is ready leaves."""
        batch, self._queue = self._queue, []
        try:
            patience = max(parcel.patience for parcel in batch)
            if self.wire is not None and (patience > 1 or self.wire.stale()):
                self.close()
            if self.wire is None:
                self._opening = asyncio.ensure_future(self._open(batch, patience))
            else:
                self.wire.send(batch)
        except BaseException:  # a second Ctrl-C is raised wherever the loop is
            self.close()
            self._give_up(batch, Lost("interrupted"))
            raise

    async def _open(self, batch: list[Parcel], patience: int) -> None:
        """Sends them on a new connection."""
        try:
            self.wire = await self._dial.open_async(patience, self._node)
        except Exception as exc:
            self._give_up(batch, exc)
        except BaseException:
            self._give_up(batch, NotSent("the loop is ending"))
            raise
        else:
            self.wire.freed = self._go_on
            self.wire.send(batch)
        finally:
            self._opening = None  # a task refers to its loop, which could then never be freed

    def _give_up(self, batch: list[Parcel], exc: Exception) -> None:
        fail(batch, exc)
        self._go_on()

    def _go_on(self) -> None:
        """What was under way has come to something."""
        if self.wire is not None and self.wire.refused:  # after trouble, no old connection is worth its risk
            self.close()
        self._busy = bool(self._queue)
        if self._busy:  # at once: the server works on it while those go on who have just been answered
            self._leave()

    def close(self) -> None:
        """Closes the connection; the next packet opens another."""
        if self.wire is not None:
            wire, self.wire = self.wire, None
            wire.close()

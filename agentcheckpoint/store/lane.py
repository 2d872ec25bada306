"""One connection that the callers of a loop share: what is ready together leaves in one write.

Its owner is a task that no caller can cancel.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.caller import Caller
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Lost, Node, NotSent, Packet, Refusal, Reply
from agentcheckpoint.store.resp import pack
from agentcheckpoint.store.wire import AsyncWire


@dataclass(slots=True)
class _Parcel:
    packet: bytes
    replies: int
    patience: int
    woken: asyncio.Future[None]
    """Wakes the caller; one who is cancelled waits for another."""
    outcome: list[Reply] | Exception | None = None
    """What came of it; ``None``: nothing yet."""

    def settle(self, outcome: list[Reply] | Exception) -> None:
        if self.outcome is None:
            self.outcome = outcome
        if not self.woken.done():
            self.woken.set_result(None)


class Lane:
    """The shared connection to one server; with only one packet there is no wait."""

    def __init__(self, dial: Dial, node: Node | None) -> None:
        self._dial = dial
        self._node = node
        self._queue: deque[_Parcel] = deque()
        self._owner: asyncio.Task[None] | None = None
        self.wire: AsyncWire | None = None

    async def submit(self, packet: Packet, caller: Caller) -> list[Reply]:
        """The replies to a packet, sent with whatever else is ready. Raises ``NotSent`` or ``Lost``."""
        woken = asyncio.get_running_loop().create_future()
        parcel = _Parcel(pack(packet.commands), len(packet.commands), packet.patience, woken)
        self._queue.append(parcel)
        if self._owner is None:
            self._owner = asyncio.ensure_future(self._own())
        while parcel.outcome is None:
            try:
                await parcel.woken
            except asyncio.CancelledError as exc:
                caller.cancelled = exc
                parcel.woken = asyncio.get_running_loop().create_future()
        if isinstance(parcel.outcome, Exception):
            raise parcel.outcome
        return parcel.outcome

    async def _own(self) -> None:
        """Sends what is waiting, reads its replies, until nothing waits."""
        batch: list[_Parcel] = []
        try:
            while self._queue:
                batch = [parcel for parcel in self._queue if parcel.outcome is None]  # the others' callers were told
                self._queue.clear()
                try:
                    await self._exchange(batch)
                except Exception as exc:
                    _fail(batch, exc)
        except BaseException:
            _fail([*batch, *self._queue], Lost("the loop is ending"))
            raise
        finally:
            self._owner = None  # a task refers to its loop, which could then never be freed

    async def _exchange(self, batch: list[_Parcel]) -> None:
        if not batch:
            return
        wire = await self._connected(max(parcel.patience for parcel in batch))
        refused = False
        await wire.send(b"".join(parcel.packet for parcel in batch))
        for parcel in batch:
            replies = await wire.receive(parcel.replies)
            refused = refused or any(isinstance(reply, Refusal) for reply in replies)
            parcel.settle(replies)
        if refused:  # after trouble, no old connection is worth its risk
            await wire.close()

    async def _connected(self, patience: int) -> AsyncWire:
        wire = self.wire
        if wire is not None and (wire.dead or patience > 1 or await wire.stale()):
            self.wire = None
            await wire.close()
            wire = None
        if wire is None:
            wire = self.wire = await self._dial.open_async(patience, self._node)
        return wire

    async def close(self) -> None:
        """Closes the connection; the next packet opens another."""
        if self.wire is not None:
            wire, self.wire = self.wire, None
            await wire.close()


def _fail(parcels: list[_Parcel], exc: Exception) -> None:
    """Each caller is told by an exception of its own: it is thrown into his generator, which may add to it."""
    for parcel in parcels:
        if parcel.outcome is None:
            trouble: Exception
            if isinstance(exc, NotSent | Lost):
                trouble = type(exc)(str(exc), timed_out=exc.timed_out)
            elif isinstance(exc, StoreRefused):
                trouble = StoreRefused(str(exc))
            else:
                trouble = Lost(f"{type(exc).__name__}: {exc}")
            trouble.__cause__ = exc
            parcel.settle(trouble)

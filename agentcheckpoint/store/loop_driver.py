"""Runs protocol generators on one event loop, over one connection that they share. It holds no rule.

A commit that has begun is settled before a cancellation unwinds: nothing half-known is left behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Await, Effect, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, T
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


@dataclass(slots=True)
class _Course:
    """What a generator's caller was told meanwhile."""

    cancelled: asyncio.CancelledError | None = None
    before: int = field(default_factory=lambda: _cancellations())
    """How often the caller had been cancelled when it began."""

    async def hear(self) -> None:
        """Notes a cancellation that came while nothing was waited for: it is raised at the next wait, which is here."""
        if self.cancelled is None and _cancellations() > self.before:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as exc:
                self.cancelled = exc


class LoopDriver:
    """Runs generators on one event loop, over one shared connection whose owner no caller can cancel.

    Packets that are ready together leave in one write; with only one there is no wait. A held packet travels on a
    connection of its own.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._wire: AsyncWire | None = None
        self._queue: deque[_Parcel] = deque()
        self._owner: asyncio.Task[None] | None = None
        self._users = 0

    async def run(self, protocol: Protocol[T]) -> T:
        """Runs it to its end even if the caller is cancelled, and then lets the cancellation go on."""
        course = _Course()
        held: list[AsyncWire] = []
        self._users += 1
        try:
            effect = next(protocol)
            while True:
                try:
                    result = await self._perform(effect, held, course)
                except Exception as exc:
                    effect = protocol.throw(exc)
                else:
                    effect = protocol.send(result)
        except StopIteration as stop:
            await course.hear()
            if course.cancelled is not None:
                raise course.cancelled from None
            return stop.value  # type: ignore[no-any-return]
        except Exception as exc:
            await course.hear()
            if course.cancelled is not None:
                raise course.cancelled from exc
            raise
        finally:
            protocol.close()
            if held or self._users == 1:
                told = course.cancelled
                await _settled(asyncio.ensure_future(self._leave(held)), course)
                if course.cancelled is not told and course.cancelled is not None:
                    raise course.cancelled
            else:
                self._users -= 1

    async def _leave(self, held: list[AsyncWire]) -> None:
        for wire in held:
            await wire.close()
        await self.release()

    async def _perform(self, effect: Effect, held: list[AsyncWire], course: _Course) -> Any:
        if isinstance(effect, Packet):
            if not effect.held:
                return await self._submit(effect, course)
            return await _settled(asyncio.ensure_future(self._exchange_held(effect, held)), course)
        if not effect.idle:
            return await _settled(asyncio.ensure_future(_wait(effect)), course)
        if course.cancelled is not None:
            raise course.cancelled
        return await _wait(effect)

    async def _exchange_held(self, packet: Packet, held: list[AsyncWire]) -> list[Reply]:
        if held and held[0].dead:
            held.clear()
            if packet.commands[0][0] == "MULTI":
                raise NotSent("the watching connection is gone")
        if not held:
            held.append(await self._dial.open_async(packet.patience))
        return await held[0].exchange(packet.commands)

    async def _submit(self, packet: Packet, course: _Course) -> list[Reply]:
        woken = asyncio.get_running_loop().create_future()
        parcel = _Parcel(pack(packet.commands), len(packet.commands), packet.patience, woken)
        self._queue.append(parcel)
        if self._owner is None:
            self._owner = asyncio.ensure_future(self._own())
        while parcel.outcome is None:
            try:
                await parcel.woken
            except asyncio.CancelledError as exc:
                course.cancelled = exc
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
            refused = refused or isinstance(replies[-1], Refusal)
            parcel.settle(replies)
        if refused:  # after trouble, no old connection is worth its risk
            await wire.close()

    async def _connected(self, patience: int) -> AsyncWire:
        wire = self._wire
        if wire is not None and (wire.dead or patience > 1 or await wire.stale()):
            self._wire = None
            await wire.close()
            wire = None
        if wire is None:
            wire = self._wire = await self._dial.open_async(patience)
        return wire

    def retain(self) -> None:
        """Somebody will use this loop's connection for a while: it is kept open until he releases it."""
        self._users += 1

    async def release(self) -> None:
        """The last user to leave closes the connection, so that none outlives its loop."""
        self._users -= 1
        if self._users == 0 and self._wire is not None:
            wire, self._wire = self._wire, None
            await wire.close()


async def _settled(under_way: asyncio.Future[T], course: _Course) -> T:
    """What came of it. A cancellation of the caller is noted, and waits until something came of it."""
    while not under_way.done():
        try:
            await asyncio.wait({under_way})
        except asyncio.CancelledError as exc:
            course.cancelled = exc
    return under_way.result()


async def _wait(effect: Pause | Await) -> Exception | None:
    if isinstance(effect, Pause):
        await asyncio.sleep(effect.seconds)
        return None
    await asyncio.wait({ended := asyncio.wrap_future(effect.future)})
    return ended.exception()  # type: ignore[return-value]


def _cancellations() -> int:
    caller = asyncio.current_task()
    return 0 if caller is None else caller.cancelling()


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

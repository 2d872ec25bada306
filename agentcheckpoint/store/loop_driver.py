"""Runs protocol generators on one event loop, over one connection that they share. It holds no rule.

A commit that has begun is settled before a cancellation unwinds: nothing half-known is left behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
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
    answer: asyncio.Future[list[Reply]]


@dataclass(slots=True)
class _Course:
    """Where a generator stands, for the caller that may be cancelled."""

    idle: bool = False
    cancelled: bool = False


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
        task = asyncio.ensure_future(self._drive(protocol, course))
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as exc:
                cancelled = exc
                course.cancelled = True
                if course.idle:
                    task.cancel()
        if cancelled is not None:
            raise cancelled from (None if task.cancelled() else task.exception())
        return task.result()

    async def _drive(self, protocol: Protocol[T], course: _Course) -> T:
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
            return stop.value  # type: ignore[no-any-return]
        finally:
            protocol.close()
            for wire in held:
                await wire.close()
            await self.release()

    async def _perform(self, effect: Effect, held: list[AsyncWire], course: _Course) -> Any:
        if not isinstance(effect, Packet):
            return await _wait(effect, course)
        if not effect.held:
            return await self._submit(effect)
        if held and held[0].dead:
            held.clear()
            if effect.commands[0][0] == "MULTI":
                raise NotSent("the watching connection is gone")
        if not held:
            held.append(await self._dial.open_async(effect.patience))
        return await held[0].exchange(effect.commands)

    async def _submit(self, packet: Packet) -> list[Reply]:
        answer: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Parcel(pack(packet.commands), len(packet.commands), packet.patience, answer))
        if self._owner is None:
            self._owner = asyncio.ensure_future(self._own())
        return await answer

    async def _own(self) -> None:
        """Sends what is waiting, reads its replies, until nothing waits."""
        batch: list[_Parcel] = []
        try:
            while self._queue:
                batch = [parcel for parcel in self._queue if not parcel.answer.done()]  # the others' callers are gone
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
            if not parcel.answer.done():
                parcel.answer.set_result(replies)
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


async def _wait(effect: Pause | Await, course: _Course) -> Exception | None:
    if effect.idle and course.cancelled:
        raise asyncio.CancelledError
    course.idle = effect.idle
    try:
        if isinstance(effect, Pause):
            await asyncio.sleep(effect.seconds)
            return None
        await asyncio.wait({ended := asyncio.wrap_future(effect.future)})
        return ended.exception()  # type: ignore[return-value]
    finally:
        course.idle = False


def _fail(parcels: list[_Parcel], exc: Exception) -> None:
    """Each caller is told by an exception of its own: it is thrown into his generator, which may add to it."""
    for parcel in parcels:
        if not parcel.answer.done():
            trouble: Exception
            if isinstance(exc, NotSent | Lost):
                trouble = type(exc)(str(exc), timed_out=exc.timed_out)
            elif isinstance(exc, StoreRefused):
                trouble = StoreRefused(str(exc))
            else:
                trouble = Lost(f"{type(exc).__name__}: {exc}")
            trouble.__cause__ = exc
            parcel.answer.set_exception(trouble)

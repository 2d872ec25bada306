"""Run a protocol generator over connections: in a thread, and on an event loop. Neither holds a rule.

A commit that has begun is settled before an interrupt or a cancellation unwinds: nothing half-known is left behind.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Await, Lost, NotSent, Packet, Pause, Protocol, Reply, T
from agentcheckpoint.store.wire import AsyncWire, Wire

SPARE = 8
"""How many idle connections a thread driver keeps."""
INTERRUPTS = 3
"""How many interrupts (Ctrl-C) a commit under way outlasts."""


class ThreadDriver:
    """Runs generators in the calling thread; each packet has a connection to itself while it is under way."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._idle: deque[Wire] = deque()
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def run(self, protocol: Protocol[T]) -> T:
        """Runs it to its end, and then raises an interrupt that came meanwhile."""
        held: list[Wire] = []
        interrupts: list[BaseException] = []
        try:
            effect = next(protocol)
            while True:
                effect = self._step(protocol, effect, held, interrupts)
        except StopIteration as stop:
            if interrupts:
                raise interrupts[0] from None
            return stop.value  # type: ignore[no-any-return]
        finally:
            for wire in held:
                self._give_back(wire)

    def _step(
        self, protocol: Generator[Any, Any, Any], effect: Any, held: list[Wire], interrupts: list[BaseException]
    ) -> Any:
        try:
            result = self._perform(effect, held)
        except (NotSent, Lost) as exc:
            return protocol.throw(exc)
        except (KeyboardInterrupt, SystemExit) as exc:
            interrupts.append(exc)
            if len(interrupts) >= INTERRUPTS:
                raise
            return protocol.throw(Lost("interrupted")) if isinstance(effect, Packet) else protocol.send(None)
        except Exception as exc:
            return protocol.throw(exc)
        return protocol.send(result)

    def _perform(self, effect: Packet | Pause | Await, held: list[Wire]) -> Any:
        if isinstance(effect, Pause):
            time.sleep(effect.seconds)
            return None
        if isinstance(effect, Await):
            _refuse_to_block(effect.future)
            return effect.future.exception()
        if not effect.held:
            wire = self._take(effect.patience)
            try:
                return wire.exchange(effect.commands)
            finally:
                self._give_back(wire)
        if held and held[0].dead:
            held.clear()
            if effect.commands[0][0] == "MULTI":  # its WATCH was on the connection that is gone
                raise NotSent("the watching connection is gone")
        if not held:
            held.append(self._take(effect.patience))
        return held[0].exchange(effect.commands)

    def _take(self, patience: int) -> Wire:
        with self._lock:
            if self._pid != os.getpid():  # a fork: the connections are the parent's
                self._idle, self._pid = deque(), os.getpid()
            wires = list(self._idle) if patience > 1 else []
            while self._idle and patience == 1:
                wire = self._idle.pop()
                if not wire.stale():
                    return wire
                wires.append(wire)
            if patience > 1:
                self._idle.clear()  # after trouble, no old connection is worth its risk
        for wire in wires:
            wire.close()
        return self._dial.open(patience)

    def _give_back(self, wire: Wire) -> None:
        if not wire.dead and wire.clean:
            with self._lock:
                if len(self._idle) < SPARE and self._pid == os.getpid():
                    self._idle.append(wire)
                    return
        wire.close()

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, deque()
        for wire in idle:
            wire.close()


def _refuse_to_block(future: Future[None]) -> None:
    """A thread with a running loop may not wait for what that loop has to do."""
    if future.done():
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RunMisuse(
        "A blocking step has to wait for an async step that is under way on the same event loop: that would never "
        "end. Make the step async, or call it through asyncio.to_thread."
    )


@dataclass(slots=True)
class _Parcel:
    packet: Packet
    answer: asyncio.Future[list[Reply]]


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
        task = asyncio.ensure_future(self._drive(protocol))
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            if not task.cancelled():
                task.exception()  # looked at: the cancellation is what the caller hears of
            raise cancelled
        return task.result()

    async def _drive(self, protocol: Generator[Any, Any, T]) -> T:
        held: list[AsyncWire] = []
        self._users += 1
        try:
            effect = next(protocol)
            while True:
                try:
                    result = await self._perform(effect, held)
                except Exception as exc:
                    effect = protocol.throw(exc)
                else:
                    effect = protocol.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            for wire in held:
                await wire.close()
            await self.release()

    async def _perform(self, effect: Packet | Pause | Await, held: list[AsyncWire]) -> Any:
        if isinstance(effect, Pause):
            await asyncio.sleep(effect.seconds)
            return None
        if isinstance(effect, Await):
            await asyncio.wait({asyncio.wrap_future(effect.future)})
            return effect.future.exception()
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
        parcel = _Parcel(packet, asyncio.get_running_loop().create_future())
        self._queue.append(parcel)
        if self._owner is None or self._owner.done():
            self._owner = asyncio.ensure_future(self._own())
        return await parcel.answer

    async def _own(self) -> None:
        """Sends what is waiting, reads its replies, until nothing waits."""
        while self._queue:
            batch = list(self._queue)
            self._queue.clear()
            try:
                await self._exchange(batch)
            except BaseException as exc:
                self._wire = None
                for parcel in batch:
                    if not parcel.answer.done():
                        parcel.answer.set_exception(exc if isinstance(exc, Exception) else Lost("the loop is ending"))
                if not isinstance(exc, Exception):
                    raise

    async def _exchange(self, batch: list[_Parcel]) -> None:
        wire = await self._connected(max(parcel.packet.patience for parcel in batch))
        await wire.send(b"".join(wire.pack(parcel.packet.commands) for parcel in batch))
        for parcel in batch:
            replies = await wire.receive(len(parcel.packet.commands))
            if not parcel.answer.done():
                parcel.answer.set_result(replies)

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

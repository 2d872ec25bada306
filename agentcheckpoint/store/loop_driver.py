"""Runs protocol generators on one event loop, over one connection that they share. It holds no rule.

A commit that has begun is settled before a cancellation unwinds: nothing half-known is left behind.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Await, Effect, Node, NotSent, Packet, Pause, Protocol, T
from agentcheckpoint.store.lane import Lane
from agentcheckpoint.store.wire import AsyncWire


@dataclass(slots=True)
class _Course:
    """Where a generator stands, for the caller that may be cancelled."""

    idle: bool = False
    cancelled: bool = False


class LoopDriver:
    """Runs generators on one event loop, over one shared connection whose owner no caller can cancel.

    There is one to each server, where there are several. A held packet travels on a connection of its own.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._lanes: dict[Node | None, Lane] = {}
        self._users = 0

    async def run(self, protocol: Protocol[T]) -> T:
        """Runs it to its end even if the caller is cancelled, and then lets the cancellation go on."""
        course = _Course()
        task = asyncio.ensure_future(self._drive(self._dial.led(protocol), course))
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
        if effect.line is not None:
            held = effect.line.wires
            if held and (held[0].dead or held[0].node != effect.node):
                raise NotSent("the watching connection is gone")
        elif not effect.held:
            return await self.lane(effect.node).submit(effect)
        if held and (held[0].dead or held[0].node != effect.node):
            await held.pop().close()
            if effect.commands[0][0] == "MULTI":
                raise NotSent("the watching connection is gone")
        if not held:
            held.append(await self._dial.open_async(effect.patience, effect.node))
        return await held[0].exchange(effect.commands)

    def lane(self, node: Node | None = None) -> Lane:
        """The shared connection to that server."""
        if node not in self._lanes:
            self._lanes[node] = Lane(self._dial, node)
        return self._lanes[node]

    def retain(self) -> None:
        """Somebody will use this loop's connection for a while: it is kept open until he releases it."""
        self._users += 1

    async def release(self) -> None:
        """The last user to leave closes the connection, so that none outlives its loop."""
        self._users -= 1
        if self._users == 0:
            for lane in tuple(self._lanes.values()):
                await lane.close()


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

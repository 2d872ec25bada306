"""Runs protocol generators on one event loop, over one connection that they share. It holds no rule.

A commit that has begun is settled before a cancellation unwinds: nothing half-known is left behind.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.caller import Caller
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Await, Effect, Node, NotSent, Packet, Pause, Protocol, Reply, T
from agentcheckpoint.store.lane import Lane


class LoopDriver:
    """Runs generators on one event loop, over one connection that they share.

    There is one to each server, where there are several. A held packet travels on a connection of its own.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._lanes: dict[Node | None, Lane] = {}
        self._users = 0

    async def run(self, protocol: Protocol[T]) -> T:
        """Runs it to its end even if the caller is cancelled, and then lets the cancellation go on."""
        protocol = self._dial.led(protocol)
        caller = Caller()
        held: list[AsyncWire] = []
        self._users += 1
        try:
            effect = next(protocol)
            while True:
                try:
                    result = await self._perform(effect, held, caller)
                except Exception as exc:
                    effect = protocol.throw(exc)
                else:
                    effect = protocol.send(result)
        except StopIteration as stop:
            await caller.hear()
            if caller.cancelled is not None:
                raise caller.cancelled from None
            return stop.value  # type: ignore[no-any-return]
        except Exception as exc:
            await caller.hear()
            if caller.cancelled is not None:
                raise caller.cancelled from exc
            raise
        finally:
            protocol.close()
            for wire in held:
                wire.close()
            self.release()

    async def _perform(self, effect: Effect, held: list[AsyncWire], caller: Caller) -> Any:
        if isinstance(effect, Packet):
            if effect.line is None and not effect.held:
                return await self.lane(effect.node).submit(effect, caller)
            return await caller.settled(asyncio.ensure_future(self._exchange_held(effect, held)))
        if not effect.idle:
            return await caller.settled(asyncio.ensure_future(_wait(effect)))
        if caller.cancelled is not None:
            raise caller.cancelled
        return await _wait(effect)

    async def _exchange_held(self, packet: Packet, held: list[AsyncWire]) -> list[Reply]:
        if packet.line is not None:
            held = packet.line.wires
            if held and (held[0].dead or held[0].node != packet.node):
                raise NotSent("the watching connection is gone")
        if held and (held[0].dead or held[0].node != packet.node):
            held.pop().close()
            if packet.commands[0][0] == "MULTI":
                raise NotSent("the watching connection is gone")
        if not held:
            held.append(await self._dial.open_async(packet.patience, packet.node))
        elif held[0].stale():  # with what it watched
            held[0].close()
            raise NotSent("the watching connection is gone")
        return await held[0].exchange(packet.commands)

    def lane(self, node: Node | None = None) -> Lane:
        """The shared connection to that server."""
        if node not in self._lanes:
            self._lanes[node] = Lane(self._dial, node)
        return self._lanes[node]

    def retain(self) -> None:
        """Somebody will use this loop's connection for a while: it is kept open until he releases it."""
        self._users += 1

    def release(self) -> None:
        """The last user to leave closes the connection, so that none outlives its loop."""
        self._users -= 1
        if self._users == 0:
            for lane in tuple(self._lanes.values()):
                lane.close()


async def _wait(effect: Pause | Await) -> Exception | None:
    if isinstance(effect, Pause):
        await asyncio.sleep(effect.seconds)
        return None
    await asyncio.wait({ended := asyncio.wrap_future(effect.future)})
    return ended.exception()  # type: ignore[return-value]

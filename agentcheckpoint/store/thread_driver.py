"""Runs protocol generators in the calling thread. It holds no rule.

A commit that has begun is settled before an interrupt unwinds: nothing half-known is left behind.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from agentcheckpoint.errors import AgentCheckpointError, RunMisuse
from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Await, Effect, Lost, Node, NotSent, Packet, Pause, Protocol, T
from agentcheckpoint.store.wire import Wire

SPARE = 8
"""How many idle connections a thread driver keeps."""
INTERRUPTS = 3
"""The interrupt (Ctrl-C) that ends the waiting for a commit under way."""
GIVEN_UP = (
    "agentcheckpoint gave up what was under way with the store: whether it was applied is not known. Opening the run "
    "again settles it."
)


def _is_idle(effect: Effect) -> bool:
    return not isinstance(effect, Packet) and effect.idle


class ThreadDriver:
    """Runs generators in the calling thread; each packet has a connection to itself while it is under way.

    It has no lock: one that another thread holds at a fork would never be free in the child.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._idle: deque[Wire] = deque()
        self._pid = os.getpid()

    def run(self, protocol: Protocol[T]) -> T:
        """Runs it to its end, and then raises an interrupt that came meanwhile."""
        protocol = self._dial.led(protocol)
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
        except Exception as exc:
            if interrupts and exc not in interrupts:
                raise interrupts[0] from exc
            raise
        finally:
            protocol.close()  # what it waits for with others must not hang on it
            for wire in held:
                self._give_back(wire)

    def _step(
        self, protocol: Generator[Any, Any, Any], effect: Effect, held: list[Wire], interrupts: list[BaseException]
    ) -> Any:
        if interrupts and _is_idle(effect):
            return protocol.throw(interrupts[0])
        try:
            result = self._perform(effect, held)
        except (NotSent, Lost, AgentCheckpointError) as exc:
            return protocol.throw(exc)
        except BaseException as exc:  # Ctrl-C, or whatever a signal's own function raises
            interrupts.append(exc)
            if _is_idle(effect):
                return protocol.throw(exc)
            if len(interrupts) >= INTERRUPTS:
                exc.add_note(GIVEN_UP)
                raise
            return protocol.throw(Lost("interrupted")) if isinstance(effect, Packet) else protocol.send(None)
        return protocol.send(result)

    def _perform(self, effect: Effect, held: list[Wire]) -> Any:
        if isinstance(effect, Pause):
            time.sleep(effect.seconds)
            return None
        if isinstance(effect, Await):
            _refuse_to_block(effect.future)
            return effect.future.exception()
        if effect.line is not None:
            held = effect.line.wires
            if held and (held[0].dead or held[0].node != effect.node):
                raise NotSent("the watching connection is gone")
        elif not effect.held:
            wire = self._take(effect)
            try:
                return wire.exchange(effect.commands)
            finally:
                self._give_back(wire)
        if held and (held[0].dead or held[0].node != effect.node):
            self._give_back(held.pop())
            if effect.commands[0][0] == "MULTI":  # its WATCH was on the connection that is gone
                raise NotSent("the watching connection is gone")
        if not held:
            held.append(self._take(effect))
        return held[0].exchange(effect.commands)

    def _take(self, packet: Packet) -> Wire:
        if self._pid != os.getpid():  # a fork: the connections are the parent's
            self._idle, self._pid = deque(), os.getpid()
        while (wire := self._spare(packet.node)) is not None:
            if packet.patience == 1 and not wire.stale():
                return wire
            wire.close()  # after trouble, no old connection is worth its risk
        return self._dial.open(packet.patience, packet.node)

    def _spare(self, node: Node | None) -> Wire | None:
        """An idle connection to that server, the one that was used last."""
        try:
            for _ in range(len(self._idle)):
                wire = self._idle.pop()
                if wire.node == node:
                    return wire
                self._idle.appendleft(wire)
        except IndexError:  # other threads took them
            return None
        return None

    def _give_back(self, wire: Wire) -> None:
        if not wire.dead and wire.clean and len(self._idle) < SPARE and self._pid == os.getpid():
            self._idle.append(wire)
        else:
            wire.close()

    def close(self) -> None:
        """Closes the idle connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


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

"""The slow second implementation of fencing: each commit looks at the head first, and watches it until its EXEC."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from agentcheckpoint.store.effects import Lost, NotSent, Packet
from agentcheckpoint.store.fence import Fence


def watched(protocol: Generator[Any, Any, Any], fence: Fence) -> Generator[Any, Any, Any]:
    """The same commit under a watch."""
    go_on: Any = protocol.send
    came: Any = None
    while True:
        try:
            effect = go_on(came)
        except StopIteration as stop:
            return stop.value
        try:
            if isinstance(effect, Packet) and not effect.held and _is_commit(effect):
                go_on, came = protocol.send, (yield from _under_watch(effect, fence))
            else:
                go_on, came = protocol.send, (yield effect)
        except (NotSent, Lost) as exc:
            go_on, came = protocol.throw, exc
        except GeneratorExit:
            protocol.close()
            raise


def _is_commit(packet: Packet) -> bool:
    return len(packet.commands) > 1 and packet.commands[1][0] == "RPUSH"


def _under_watch(packet: Packet, fence: Fence) -> Generator[Any, Any, list[Any]]:
    token = str(packet.commands[1][1]).split(":")[2]
    while True:
        _, head = yield Packet((("WATCH", fence.keys.head), ("GET", fence.keys.head)), held=True)
        if head != token.encode():  # what the packet would have answered: applied to dead names, and the head
            return [b"OK", *[b"QUEUED"] * (len(packet.commands) - 2), [None] * (len(packet.commands) - 3) + [head]]
        replies: list[Any] = yield Packet(packet.commands, held=True)
        if replies[-1] is not None:
            return replies

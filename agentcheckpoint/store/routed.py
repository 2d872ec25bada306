"""Sends each packet of a protocol to the server that has its keys. A generator around a generator: rules, and no I/O.

A packet that was turned away (its slot has moved, or is moving; the server is no primary any more) was not applied: the
protocol is told that it did not leave, and looks again, its watch included. It is never sent on to another server from
here: what it was decided by was read on the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from agentcheckpoint.store.effects import (
    Effect,
    Lost,
    Node,
    NotSent,
    Packet,
    Pause,
    Protocol,
    Refusal,
    Reply,
    T,
    performed_by,
)
from agentcheckpoint.store.refusals import nothing_applied
from agentcheckpoint.store.routes import Routes

AWAY = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN"})
"""Refusals that say: not here, or not now. A transaction with one of them was not applied."""
PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 6.0)
"""Seconds that one request waits, beside its own pauses, for a replica to take the place of a primary that is away."""


def routed(protocol: Protocol[T], routes: Routes) -> Protocol[T]:
    """The same protocol, with a server named in each of its packets."""
    return performed_by(protocol, partial(_performed, routes=routes, pauses=iter(PAUSES)))


def _performed(effect: Effect, routes: Routes, pauses: Iterator[float]) -> Protocol[object]:
    if not isinstance(effect, Packet) or effect.node is not None:
        return (yield effect)
    if not routes.primaries:
        yield from routes.look()
    replies: list[Reply] = [None] * len(effect.commands)
    for node, places in _parts(effect, routes):
        part = replace(effect, commands=tuple(effect.commands[n] for n in places), node=node)
        for n, reply in zip(places, (yield from _answered(part, node, routes, pauses)), strict=True):
            replies[n] = reply
    return replies


def _parts(packet: Packet, routes: Routes) -> list[tuple[Node, list[int]]]:
    """The servers that a packet goes to, each with the places of its commands.

    A transaction, or what is watched for one, is of one slot, and goes whole. Questions about several runs may be put
    in one packet: each goes to the server that has the run, in the order in which they stood.
    """
    whole = packet.held or packet.line is not None or packet.commands[0][0] == "MULTI"
    parts: dict[Node, list[int]] = {}
    keyless: list[int] = []
    for n, command in enumerate(packet.commands):
        node = routes.owner(command)
        if node is None:
            keyless.append(n)
            continue
        if whole:
            return [(node, list(range(len(packet.commands))))]
        parts.setdefault(node, []).append(n)
    anywhere = next(iter(parts), routes.primaries[0])
    parts[anywhere] = sorted((*parts.get(anywhere, ()), *keyless))
    return list(parts.items())


def _answered(part: Packet, node: Node, routes: Routes, pauses: Iterator[float]) -> Protocol[list[Reply]]:
    """The server's replies.

    Raises:
        NotSent: it is away, or has turned the packet away.
        Lost: nobody knows; or a part of several questions was turned away.
    """
    try:
        replies: list[Reply] = yield part
    except (NotSent, Lost) as exc:
        if isinstance(exc, NotSent):
            yield from _pause(pauses)
        yield from _look_again(routes, node)
        raise
    why = next((reply for reply in replies if isinstance(reply, Refusal) and _is_away(reply)), None)
    if why is None:
        return replies
    if why.code == "MOVED":
        routes.moved(why, node)
    else:
        yield from _pause(pauses)
        if why.code not in ("ASK", "TRYAGAIN"):
            yield from _look_again(routes, node)
    raise (NotSent if nothing_applied(replies) else Lost)(f"{node[0]}:{node[1]} turned it away: {why}")


def _is_away(refusal: Refusal) -> bool:
    """Whether it says so, in its own code or, where only EXEC was refused, in what it quotes."""
    quoted = refusal.text.partition("because of: ")[2].partition(" ")[0]
    return refusal.code in AWAY or (refusal.code == "EXECABORT" and quoted in AWAY)


def _pause(pauses: Iterator[float]) -> Protocol[None]:
    if seconds := next(pauses, 0.0):
        yield Pause(seconds)


def _look_again(routes: Routes, avoid: Node) -> Protocol[None]:
    try:
        yield from routes.look(avoid)
    except NotSent:
        return  # what was known is tried again

"""A short look at many runs at a time: their state, when something last happened to them, and whether they are held.

What it says may be late, and decides nothing alone: who acts on it looks again, under a watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agentcheckpoint.errors import CheckpointCorrupt, CheckpointsLost, SchemaTooNew, StoreError, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, ms_of
from agentcheckpoint.store.loading import META, lost_head, parse_entry, parse_head, parse_meta
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.reading import Address
from agentcheckpoint.store.refusals import NotNow, raise_refusal


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A run that is there.

    Attributes:
        state: as in ``RunView``.
        last_ms: when something was last written to its log, milliseconds since the epoch.
        is_held: somebody has a lease of it that runs out.
    """

    state: str
    last_ms: int
    is_held: bool


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no such run, or it is changing hands.

    Attributes:
        is_deleted: it has a tombstone, so that there never will be one.
        is_kept: its ledger was kept.
    """

    is_deleted: bool = False
    is_kept: bool = False


Sight: TypeAlias = Glimpse | Absent | StoreError
"""``StoreError``: it cannot be read, and why."""

_FIRST, _SECOND = 4, 4
"""How many questions are asked of each run."""


def look_at(addresses: Sequence[Address]) -> Protocol[tuple[int, list[Sight]]]:
    """The time on the server's clock, milliseconds since the epoch, and what was seen of each run: two packets.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    trouble: Exception | None = None
    patience = Patience()
    for times, pause in patience.tries():
        try:
            return (yield from _look(addresses, times))
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
            yield Pause(pause)
    raise StoreUnavailable(f"{len(addresses)} runs could not be looked at in several tries: {trouble}.")


def _look(addresses: Sequence[Address], times: int) -> Protocol[tuple[int, list[Sight]]]:
    asked: list[Command] = [("TIME",)]
    for keys in (address.keys for address in addresses):
        # In this order: a run that is made or deleted between two of these is not taken for one that lost its head.
        asked += [("LLEN", keys.tokens), ("GET", keys.head), ("EXISTS", keys.tomb), ("EXISTS", keys.kept)]
    time, *replies = yield Packet(tuple(asked), patience=times)
    if isinstance(time, Refusal):
        raise_refusal(addresses[0].run_id if addresses else "", asked[:1], [time])
    heads: list[str | Sight] = []
    for n, address in enumerate(addresses):
        here = slice(n * _FIRST, (n + 1) * _FIRST)
        heads.append(_head(address, asked[1:][here], replies[here]))
    there = [(address, head) for address, head in zip(addresses, heads, strict=True) if isinstance(head, str)]
    glimpses = iter((yield from _glimpses(there, times)) if there else ())
    return ms_of(time), [next(glimpses) if isinstance(head, str) else head for head in heads]


def _head(address: Address, commands: Sequence[Command], replies: Sequence[Reply]) -> str | Sight:
    try:
        _check(address, commands, replies)
        tokens, reply, tomb, kept = replies
        head = parse_head(address.run_id, address.keys.head, reply)
        if head is None and tokens and not tomb:
            raise lost_head(address.run_id, address.keys.head)
    except (CheckpointCorrupt, CheckpointsLost) as exc:
        return exc
    return Absent(tomb > 0, kept > 0) if head is None else head


def _glimpses(there: Sequence[tuple[Address, str]], times: int) -> Protocol[list[Sight]]:
    asked: list[Command] = []
    for address, head in there:
        keys = address.keys
        asked += [("HMGET", keys.meta(head), *META), ("PTTL", keys.lease(head)), ("LRANGE", keys.log(head), -1, -1)]
        asked.append(("GET", keys.head))
    replies = yield Packet(tuple(asked), patience=times)
    found: list[Sight] = []
    for n, (address, head) in enumerate(there):
        here = slice(n * _SECOND, (n + 1) * _SECOND)
        found.append(_glimpse(address, head, asked[here], replies[here]))
    return found


def _glimpse(address: Address, head: str, commands: Sequence[Command], replies: Sequence[Reply]) -> Sight:
    keys = address.keys
    try:
        _check(address, commands, replies)
        meta, ttl, lines, still = replies
        if still != head.encode():
            return Absent()  # taken or deleted meanwhile: what it was called is renamed, and not gone
        fields = parse_meta(address.run_id, keys.meta(head), meta)
        last = parse_entry(address.run_id, keys.log(head), -1, lines[0] if lines else None)
    except (CheckpointCorrupt, CheckpointsLost, SchemaTooNew) as exc:
        return exc
    return Glimpse(fields["state"], last.at, ttl > 0)


def _check(address: Address, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(address.run_id, commands, replies)

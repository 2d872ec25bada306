"""What is done around commits: the lease renewed and released, waste booked, orphans and whole runs deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import RunNotFound, StoreUnavailable
from agentcheckpoint.store.claim import PAUSES, Busy
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder, provably_dead
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.reading import Address
from agentcheckpoint.store.refusals import raise_refusal


def renew(fence: Fence) -> Protocol[None]:
    """Sets the lease anew, and notices when the run has become another's. A lost renewal is no harm: the next comes."""
    keys, token = fence.keys, fence.token
    lease: Command = ("SET", keys.lease(token), fence.holder, "PX", fence.ttl_ms)
    try:
        replies = yield Packet((("MULTI",), lease, ("GET", keys.head), ("EXEC",)))
    except (NotSent, Lost):
        return
    outcome = replies[-1]
    if isinstance(outcome, list) and isinstance(outcome[-1], bytes):
        head = outcome[-1].decode()
        if head not in fence.issued:
            fence.heir = head


def set_totals(fence: Fence, totals: Mapping[str, int]) -> Protocol[None]:
    """Writes the totals anew from their sums: they are a cache, the entries are the account."""
    keys, token = fence.keys, fence.token
    pairs = tuple(part for pair in totals.items() for part in pair)
    try:
        yield Packet((("MULTI",), ("HSET", keys.meta(token), *pairs), ("GET", keys.head), ("EXEC",)))
    except (NotSent, Lost):
        return  # the next load tries again


def book_waste(address: Address, entries: Iterable[LedgerEntry]) -> Protocol[None]:
    """Books what a fenced-off worker paid, under a name without a token: the money is gone, whoever owns the run.

    Each attempt has one field and is set once, so that sending twice books once.
    """
    lines = [(entry.id, entry.model_dump_json(exclude_none=True)) for entry in entries]
    if not lines:
        return
    commands = tuple(("HSETNX", address.keys.waste, entry_id, line) for entry_id, line in lines)
    for pause in PAUSES:
        try:
            replies = yield Packet(commands)
        except (NotSent, Lost):
            yield Pause(pause)
            continue
        if any(isinstance(reply, Refusal) for reply in replies):
            raise_refusal(address.run_id, replies)
        return
    raise StoreUnavailable(
        f"run {address.run_id!r}: {len(lines)} paid attempt(s) could not be booked as wasted; the store is away.",
        run_id=address.run_id,
    )


def sweep(fence: Fence) -> Protocol[int]:
    """Deletes what this worker's late packets wrote under tokens that are no longer current; returns how many names.

    The tokens are listed before head is read, and head is watched: a failover to a lagging replica can bring an old
    head back, and then an orphan is no orphan.
    """
    keys = fence.keys
    try:
        head = (yield Packet((("WATCH", keys.head), ("GET", keys.head)), held=True))[1]
        if not isinstance(head, bytes):
            return 0
        dead = [token for token in fence.issued if token != head.decode()]
        names = [name for token in dead for name in (*keys.data(token), keys.lease(token))]
        if not names:
            return 0
        replies = yield Packet((("MULTI",), ("DEL", *names), ("EXEC",)), held=True)
    except (NotSent, Lost):
        return 0
    outcome = replies[-1]
    return int(outcome[0]) if isinstance(outcome, list) and isinstance(outcome[0], int) else 0


def delete_run(address: Address, stamp_ms: int, released: Callable[[Holder], bool]) -> Protocol[Busy | None]:
    """Deletes a run with all keys that any of its tokens may have left, and leaves a tombstone.

    Returns:
        ``None``, or who holds the lease: a run that somebody works on is not deleted.

    Raises:
        RunNotFound: there is no such run.
        StoreRefused, StoreUnavailable.
    """
    keys: RunKeys = address.keys
    for pause in PAUSES:
        try:
            look = yield Packet((("LRANGE", keys.tokens, 0, -1), ("WATCH", keys.head), ("GET", keys.head)), held=True)
            if any(isinstance(reply, Refusal) for reply in look):
                raise_refusal(address.run_id, look)
            tokens, _, head = look
            if head is None and not tokens:
                raise RunNotFound(f"run {address.run_id!r}: there is no such run to delete.", run_id=address.run_id)
            if head is not None:
                lease = keys.lease(head.decode())
                _, holder, ttl = yield Packet((("WATCH", lease), ("GET", lease), ("PTTL", lease)), held=True)
                if isinstance(holder, bytes):
                    who = Holder.model_validate_json(holder)
                    if not released(who) and not provably_dead(who):
                        return Busy(who, max(ttl, 0) / 1000)
            names = [name for t in tokens for name in (*keys.data(t.decode()), keys.lease(t.decode()))]
            packet = (
                ("MULTI",),
                ("SET", keys.tomb, stamp_ms),
                ("DEL", keys.head, keys.tokens, keys.waste, *names),
                ("EXEC",),
            )
            replies = yield Packet(packet, held=True)
        except (NotSent, Lost):
            yield Pause(pause)
            continue
        if isinstance(replies[-1], list):
            return None
        if any(isinstance(reply, Refusal) for reply in replies):
            raise_refusal(address.run_id, replies)
    raise StoreUnavailable(
        f"run {address.run_id!r}: it could not be deleted; the store is away.", run_id=address.run_id
    )

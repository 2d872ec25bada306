"""What is done around commits: the lease renewed and released, waste booked, orphans and whole runs deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

from agentcheckpoint.core.kept import Kept
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import RunNotFound
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Protocol, Refusal, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder
from agentcheckpoint.store.kept import kept_commands
from agentcheckpoint.store.keys import RunKeys, is_token
from agentcheckpoint.store.leases import Busy, busy
from agentcheckpoint.store.loading import Loaded, lost_head, parse_head, refuse_newer
from agentcheckpoint.store.marks import marked_slots, whole_names
from agentcheckpoint.store.persisting import answered, exchange, persist
from agentcheckpoint.store.reading import Address, snapshot_under
from agentcheckpoint.store.refusals import raise_refusal


def renew(fence: Fence) -> Protocol[None]:
    """Sets the lease anew, and notices when the run has become another's. A lost renewal is no harm: the next comes."""
    keys, token = fence.keys, fence.token
    lease: Command = ("SET", keys.lease(token), fence.holder, "PX", fence.ttl_ms)
    try:
        replies = yield Packet((("MULTI",), lease, ("GET", keys.cancel), ("GET", keys.head), ("EXEC",)))
    except (NotSent, Lost):
        return
    outcome = executed(replies)
    if outcome is not None and isinstance(outcome[-1], bytes):
        fence.hear(outcome[-2])
        head = parse_head(fence.run_id, keys.head, outcome[-1])
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

    def once(times: int) -> Protocol[bool]:
        yield from exchange(address.run_id, commands, times, held=False)
        return True

    yield from persist(address.run_id, once, f"{len(lines)} paid attempt(s) could not be booked as wasted")


def sweep(fence: Fence) -> Protocol[int]:
    """Deletes what this worker's late packets wrote under tokens that are no longer current; returns how many names.

    The tokens are listed before head is read, and head is watched: a failover to a lagging replica can bring an old
    head back, and then an orphan is no orphan. Where head is missing, only a tombstone tells that nothing is left.
    """
    keys, mine = fence.keys, tuple(fence.issued)
    try:
        look = yield Packet((("WATCH", keys.head), ("GET", keys.head), ("EXISTS", keys.tomb)), held=True)
        _, head, tomb = look
        current = head.decode("ascii", "replace") if isinstance(head, bytes) else ""
        if not is_token(current) and (head is not None or tomb != 1):
            return 0
        old = (token for token in mine if token != current)
        names = tuple(name for token in old for name in _names(keys, token, fence.marked))
        if not names:
            return 0
        replies = yield Packet((("MULTI",), ("DEL", *names), ("EXEC",)), held=True)
    except (NotSent, Lost):
        return 0
    outcome = replies[-1]
    return int(outcome[0]) if isinstance(outcome, list) and isinstance(outcome[0], int) else 0


Decide: TypeAlias = Callable[[Loaded], Kept | None]
"""Is shown a run that is about to be deleted, and says what is kept of it. What it raises ends the deletion."""


def delete_run(
    address: Address, stamp: str, released: Callable[[Holder], bool], decide: Decide | None = None
) -> Protocol[Busy | None]:
    """Deletes a run with all keys that any of its tokens may have left, and leaves a tombstone.

    Args:
        address: which run.
        stamp: what the tombstone says, different each time: a deletion whose reply was lost knows its own by it.
        released: whether a holder is this very process and has closed the run.
        decide: is asked under the watch, so that what it is shown is what is deleted; it may be asked again. Without
            it the run is not read, and one that cannot be read can be deleted.

    Returns:
        ``None``, or who holds the lease: a run that somebody works on is not deleted.

    Raises:
        RunNotFound: there is no such run.
        CheckpointCorrupt: its head or its lease is not what this library writes.
        SchemaTooNew: a newer version of this library has worked on it.
        CheckpointsLost: with ``decide``, a part of it is gone.
        StoreRefused, StoreUnavailable.
    """
    once = partial(_delete, address, stamp.encode(), released, decide)
    outcome = yield from persist(address.run_id, once, "it could not be deleted")
    return outcome if isinstance(outcome, Busy) else None


def _delete(
    address: Address, stamp: bytes, released: Callable[[Holder], bool], decide: Decide | None, times: int
) -> Protocol[Busy | Literal[True] | None]:
    """Whether it is deleted; ``None``: head, lease, or what is booked beside the log changed meanwhile."""
    keys = address.keys
    watched = (keys.head,) if decide is None else (keys.head, keys.waste)
    look = (("LRANGE", keys.tokens, 0, -1), ("WATCH", *watched), ("GET", keys.head), ("GET", keys.tomb))
    tokens, _, reply, tomb = yield from exchange(address.run_id, look, times)
    head = parse_head(address.run_id, keys.head, reply)
    if head is None and not tokens:
        if tomb == stamp:
            return True  # by this very call: only its reply was lost
        raise RunNotFound(f"run {address.run_id!r}: there is no such run to delete.", run_id=address.run_id)
    left = {name for token in tokens if is_token(name := token.decode("ascii", "replace"))}
    kept: Kept | None = None
    if head is not None:
        left.add(head)  # a claim may have come after the list was read
        who = yield from _holder(address, head, released, times)
        if who is not None:
            return who
        if decide is not None:  # a commit that comes after this sets the lease, and makes EXEC void
            kept = decide((yield from snapshot_under(address, head, times)))
    elif decide is not None:
        raise lost_head(address.run_id, keys.head)
    gone = (*keys.beside, keys.kept, *(yield from _all_names(keys, sorted(left))))
    commands: tuple[Command, ...] = (("MULTI",), ("SET", keys.tomb, stamp), ("DEL", *gone))
    commands = (*commands, *kept_commands(keys, kept), ("EXEC",))
    replies = yield Packet(commands, held=True, patience=times)
    if isinstance(replies[-1], Refusal):
        raise_refusal(address.run_id, commands, replies)
    return True if isinstance(replies[-1], list) else None


def _holder(address: Address, head: str, released: Callable[[Holder], bool], times: int) -> Protocol[Busy | None]:
    """Who holds the lease. It is watched from now on."""
    keys, lease = address.keys, address.keys.lease(head)
    questions = (("WATCH", lease), ("GET", lease), ("PTTL", lease), ("HGET", keys.meta(head), "schema"))
    replies = yield Packet(questions, held=True, patience=times)
    _, held, ttl = answered(address.run_id, questions[:3], replies[:3])
    refuse_newer(address.run_id, keys.meta(head), replies[3])  # it may have keys that are not known here
    return None if held is None else busy(address.run_id, lease, held, ttl, released)


def forget_ledger(address: Address) -> Protocol[bool]:
    """Deletes what was kept of a deleted run; whether there was anything.

    Raises:
        CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """
    keys, sent = address.keys, False

    def once(times: int) -> Protocol[bool | None]:
        nonlocal sent
        look: tuple[Command, ...] = (("WATCH", keys.head, keys.kept), ("EXISTS", keys.head), ("EXISTS", keys.kept))
        _, head, kept = yield from exchange(address.run_id, look, times)
        if head or not kept:
            return sent and not head  # by this very call: only its reply was lost
        sent = True
        replies = yield from exchange(address.run_id, (("MULTI",), ("DEL", keys.kept), ("EXEC",)), times)
        return True if isinstance(replies[-1], list) else None

    return (yield from persist(address.run_id, once, "its ledger could not be deleted"))


def _names(keys: RunKeys, token: str, marked: Iterable[str]) -> tuple[str, ...]:
    """The keys that a token may have left."""
    return (*whole_names(keys, token, marked), keys.lease(token))


def _all_names(keys: RunKeys, tokens: Sequence[str]) -> Protocol[tuple[str, ...]]:
    """The keys that tokens may have left. Who marks an item of a loop sets the loop's cursor with it."""
    replies = yield Packet(tuple(("HGETALL", keys.meta(token)) for token in tokens), held=True)
    marked = (set[str]() if isinstance(reply, Refusal) else marked_slots(_texts(reply)) for reply in replies)
    return tuple(name for token, slots in zip(tokens, marked, strict=True) for name in _names(keys, token, slots))


def _texts(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode("utf-8", "replace") for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))

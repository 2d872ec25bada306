"""What is done around commits: the lease renewed and released, waste booked, orphans and whole runs deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import RunNotFound, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder
from agentcheckpoint.store.keys import RunKeys, is_token
from agentcheckpoint.store.leases import Busy, busy
from agentcheckpoint.store.loading import parse_head, refuse_newer
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.reading import Address
from agentcheckpoint.store.refusals import NotNow, raise_refusal


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
    trouble: Exception | None = None
    patience = Patience()
    for times, pause in patience.tries():
        try:
            replies = yield Packet(commands, patience=times)
            if any(isinstance(reply, Refusal) for reply in replies):
                raise_refusal(address.run_id, commands, replies)
            return
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
            yield Pause(pause)
    raise StoreUnavailable(
        f"run {address.run_id!r}: {len(lines)} paid attempt(s) could not be booked as wasted: {trouble}.",
        run_id=address.run_id,
    )


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
        names = _names(keys, [token for token in mine if token != current])
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
        CheckpointCorrupt: its head or its lease is not what this library writes.
        SchemaTooNew: a newer version of this library has worked on it.
        StoreRefused, StoreUnavailable.
    """
    trouble: Exception = NotNow("it kept changing hands")
    patience = Patience()
    for times, pause in patience.tries():
        try:
            outcome = yield from _delete(address, str(stamp_ms).encode(), released, times)
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
            yield Pause(pause)
            continue
        if outcome is not False:
            return outcome if isinstance(outcome, Busy) else None
    raise StoreUnavailable(
        f"run {address.run_id!r}: it could not be deleted in several tries: {trouble}.", run_id=address.run_id
    )


def _delete(address: Address, stamp: bytes, released: Callable[[Holder], bool], patience: int) -> Protocol[Busy | bool]:
    """Whether it is deleted; ``False``: head or lease changed meanwhile."""
    keys = address.keys
    look = (("LRANGE", keys.tokens, 0, -1), ("WATCH", keys.head), ("GET", keys.head), ("GET", keys.tomb))
    tokens, _, reply, tomb = yield from _asked(address, look, patience)
    head = parse_head(address.run_id, keys.head, reply)
    if head is None and not tokens:
        if tomb == stamp:
            return True  # by this very call: only its reply was lost
        raise RunNotFound(f"run {address.run_id!r}: there is no such run to delete.", run_id=address.run_id)
    left = {name for token in tokens if is_token(name := token.decode("ascii", "replace"))}
    if head is not None:
        left.add(head)  # a claim may have come after the list was read
        lease = keys.lease(head)
        questions = (("WATCH", lease), ("GET", lease), ("PTTL", lease), ("HGET", keys.meta(head), "schema"))
        replies = yield Packet(questions, held=True, patience=patience)
        _, held, ttl = _answered(address, questions[:3], replies[:3])
        refuse_newer(address.run_id, keys.meta(head), replies[3])  # it may have keys that are not known here
        who = None if held is None else busy(address.run_id, lease, held, ttl, released)
        if who is not None:
            return who
    names = (keys.head, keys.tokens, *keys.beside, *_names(keys, left))
    commands: tuple[Command, ...] = (("MULTI",), ("SET", keys.tomb, stamp), ("DEL", *names), ("EXEC",))
    replies = yield Packet(commands, held=True, patience=patience)
    if isinstance(replies[-1], Refusal):
        raise_refusal(address.run_id, commands, replies)
    return isinstance(replies[-1], list)


def _asked(address: Address, commands: tuple[Command, ...], patience: int) -> Protocol[list[Reply]]:
    return _answered(address, commands, (yield Packet(commands, held=True, patience=patience)))


def _answered(address: Address, commands: tuple[Command, ...], replies: list[Reply]) -> list[Reply]:
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(address.run_id, commands, replies)
    return replies


def _names(keys: RunKeys, tokens: Iterable[str]) -> tuple[str, ...]:
    """The keys that tokens may have left."""
    return tuple(name for token in tokens for name in (*keys.data(token), keys.lease(token)))

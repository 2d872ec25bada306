"""Making a whole run at once: piece by piece under a token that no head names, and the head last.

Until then nobody can open it, and its keys have a time to live: what a making that died has left goes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentcheckpoint.errors import CommitUnknown, RunExists, StoreError, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Protocol, Refusal, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.loading import lost_head, parse_head
from agentcheckpoint.store.making import deleted_error
from agentcheckpoint.store.persisting import answered, exchange, persist
from agentcheckpoint.store.refusals import NotNow, nothing_applied, raise_refusal

LEFT_MS = 600_000
"""Milliseconds that keys without a head stay, counted anew by each piece."""
PIECE, MOST = 1_000_000, 500
"""Bytes of results, and records, that are read or written at a time."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A run that is to be made.

    Attributes:
        target: which.
        write: writes log and results under a token, by ``write_piece``, given by how much to multiply the time-outs;
            returns how many there are of each, birth mark included. It may be asked again, for another token.
        begin: what is written with the head: the commands for a token.
    """

    target: Fence
    write: Callable[[str, int], Protocol[tuple[int, int]]]
    begin: Callable[[str], tuple[Command, ...]]


def make_whole(draft: Draft, new_token: Callable[[int], str]) -> Protocol[None]:
    """Makes the run, whole or not at all.

    Raises:
        RunExists, RunDeleted: there is, or was, a run of that id.
        CommitUnknown: the server did not say whether the head was set.
        CheckpointsLost, CheckpointCorrupt, StoreRefused, StoreUnavailable.
        StoreError: what ``draft.write`` raises.
    """
    target, doubt = draft.target, False

    def once(times: int) -> Protocol[bool | None]:
        nonlocal doubt
        if (yield from _stands(target, times)):
            return True
        token = new_token(1)
        target.issue(token)
        sent = False
        try:
            size = yield from draft.write(token, times)
            commands = yield from _look_once_more(draft, token, size, times)
            sent = commands is not None
            made = None if commands is None else (yield from _publish(target, commands, times))
        except (NotSent, Lost, NotNow, StoreError) as exc:
            if sent and isinstance(exc, Lost):
                doubt = True  # the head may be set: the next look tells
            else:
                yield from _discard(target, token)
            raise
        if made is None:
            yield from _discard(target, token)
        return made

    try:
        yield from persist(target.run_id, once, "it could not be made")
    except StoreUnavailable as exc:
        if not doubt:
            raise
        raise CommitUnknown(
            f"{exc} The server went away before it said whether the run was made. If it was, it is whole: ac.get("
            f"{target.run_id!r}) tells.",
            run_id=target.run_id,
        ) from exc


def check_free(target: Fence) -> Protocol[None]:
    """Raises ``RunExists`` or ``RunDeleted`` if no run can be made of that id; and ``StoreError``."""
    yield from persist(target.run_id, lambda times: _free(target, times), "it could not be looked for")


def write_piece(
    target: Fence, token: str, lines: Sequence[str], results: Sequence[str | bytes], times: int
) -> Protocol[None]:
    """Writes some lines of the log, and results by their ids, under a token that is no head yet."""
    log, kept = target.keys.log(token), target.keys.results(token)
    inner: tuple[Command, ...] = (("RPUSH", log, *lines),)
    inner = (*inner, ("HSET", kept, *results)) if results else inner
    inner = (*inner, *(("PEXPIRE", key, LEFT_MS) for key in (log, kept)))
    commands: tuple[Command, ...] = (("MULTI",), *inner, ("EXEC",))
    replies = yield Packet(commands, patience=times)
    outcome = executed(replies)
    if outcome is None:
        raise_refusal(target.run_id, commands, replies)
    answered(target.run_id, inner, list(outcome))


def _free(target: Fence, times: int) -> Protocol[bool]:
    yield from _stands(target, times)
    return True


def _stands(target: Fence, times: int) -> Protocol[bool]:
    """Whether this very making has made the run already. Raises if there is another of its id."""
    keys = target.keys
    # In this order: a run that is made or deleted between two of these is not taken for one that lost its head.
    look: tuple[Command, ...] = (("LLEN", keys.tokens), ("GET", keys.head), ("EXISTS", keys.tomb))
    tokens, reply, tomb = yield from exchange(target.run_id, look, times, held=False)
    head = parse_head(target.run_id, keys.head, reply)
    if head is not None:
        if head in target.issued:
            return True
        raise RunExists(
            f"run {target.run_id!r} exists already, and it was to be a new run. Nothing was changed: use another id.",
            run_id=target.run_id,
        )
    if tomb:
        raise deleted_error(target)
    if tokens:
        raise lost_head(target.run_id, keys.head)
    return False


def _look_once_more(
    draft: Draft, token: str, size: tuple[int, int], times: int
) -> Protocol[tuple[Command, ...] | None]:
    """The packet that makes the run, if all of it is there; ``None``: somebody else has made one.

    What the packet builds on is watched: it is void if that changes, or if its time to live ends.
    """
    target, keys = draft.target, draft.target.keys
    log, results = keys.log(token), keys.results(token)
    look: tuple[Command, ...] = (("WATCH", keys.head, log, results), ("GET", keys.head), ("LLEN", keys.tokens))
    look = (*look, ("EXISTS", keys.tomb), ("LLEN", log), ("HLEN", results))
    _, head, tokens, tomb, *stored = yield from exchange(target.run_id, look, times)
    if head is not None or tokens or tomb:
        return None
    if tuple(stored) != size:
        raise NotNow("what was written had gone before all of it was there")
    made: tuple[Command, ...] = (("MULTI",), ("SET", keys.head, token), ("RPUSH", keys.tokens, token))
    return (*made, ("PERSIST", log), ("PERSIST", results), *draft.begin(token), ("EXEC",))


def _publish(target: Fence, commands: tuple[Command, ...], times: int) -> Protocol[bool | None]:
    replies = yield Packet(commands, held=True, patience=times)
    if isinstance(replies[-1], Refusal):
        if nothing_applied(replies):
            raise_refusal(target.run_id, commands, replies)
        raise Lost(str(replies[-1]))
    return True if executed(replies) is not None else None


def _discard(target: Fence, token: str) -> Protocol[None]:
    """Takes away what was written under a token that was never a head."""
    try:
        yield Packet((("DEL", *target.keys.data(token)),))
    except (NotSent, Lost):
        return  # it goes by itself

"""Copying a run's records into a new run: piece by piece under a token that no head names, and the head last.

Until then nobody can open it, and its keys have a time to live: what a copy that died has left goes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentcheckpoint.core.models import Birth, Done
from agentcheckpoint.errors import CommitUnknown, RunExists, StoreError, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Protocol, Refusal, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import BIRTH
from agentcheckpoint.store.loading import lost_head, parse_head
from agentcheckpoint.store.making import born_command, deleted_error, unbegun_command
from agentcheckpoint.store.persisting import answered, exchange, persist
from agentcheckpoint.store.reading import Address, read_results
from agentcheckpoint.store.refusals import NotNow, nothing_applied, raise_refusal

LEFT_MS = 600_000
"""Milliseconds that keys without a head stay, counted anew by each piece."""
PIECE, MOST = 1_000_000, 500
"""Bytes of results, and records, that are copied at a time."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What is copied.

    Attributes:
        source: the run that it comes from.
        token: where its results were last seen.
        target: the new run.
        birth, input: its birth mark, and what is kept under the id of that.
        records: the source's, in order.
        given: the results of those that are not asked of the source, by id.
        convert: the new run's record and result bytes, for one of the source's.
    """

    source: Address
    token: str
    target: Fence
    birth: Birth
    input: bytes | None
    records: Sequence[Done]
    given: dict[str, bytes]
    convert: Callable[[Done, bytes], tuple[Done, bytes]]


def copy_run(copy: Copy, new_token: Callable[[int], str]) -> Protocol[None]:
    """Makes the new run, whole or not at all.

    Raises:
        RunExists, RunDeleted: there is, or was, a run of that id.
        RunNotFound: the source was deleted meanwhile.
        CommitUnknown: the server did not say whether the head was set.
        CheckpointsLost, CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """
    target, doubt = copy.target, False

    def once(times: int) -> Protocol[bool | None]:
        nonlocal doubt
        if (yield from _stands(target, times)):
            return True
        token = new_token(1)
        target.issue(token)
        sent = False
        try:
            size = yield from _copy(copy, token, times)
            commands = yield from _look_once_more(copy, token, size, times)
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


def _free(target: Fence, times: int) -> Protocol[bool]:
    yield from _stands(target, times)
    return True


def _stands(target: Fence, times: int) -> Protocol[bool]:
    """Whether this very copy has made the run already. Raises if there is another of its id."""
    keys = target.keys
    # In this order: a run that is made or deleted between two of these is not taken for one that lost its head.
    look: tuple[Command, ...] = (("LLEN", keys.tokens), ("GET", keys.head), ("EXISTS", keys.tomb))
    tokens, reply, tomb = yield from exchange(target.run_id, look, times, held=False)
    head = parse_head(target.run_id, keys.head, reply)
    if head is not None:
        if head in target.issued:
            return True
        raise RunExists(
            f"run {target.run_id!r} exists already, and a fork is a new run. Nothing was changed: use another id.",
            run_id=target.run_id,
        )
    if tomb:
        raise deleted_error(target)
    if tokens:
        raise lost_head(target.run_id, keys.head)
    return False


def _copy(copy: Copy, token: str, times: int) -> Protocol[int]:
    """Writes log and results under the token; returns how many entries the log has."""
    data = () if copy.input is None else (copy.birth.id, copy.input)
    yield from _write(copy.target, token, (_line(copy.birth),), (BIRTH, copy.birth.id, *data), times)
    for piece in _pieces(copy.records):
        wanted = [done.id for done in piece if done.id not in copy.given]
        found = (yield from read_results(copy.source, copy.token, wanted)) if wanted else {}
        made = [copy.convert(done, copy.given.get(done.id) or found[done.id]) for done in piece]
        pairs = tuple(part for done, result in made for part in (done.id, result))
        yield from _write(copy.target, token, tuple(_line(done) for done, _ in made), pairs, times)
    return 1 + len(copy.records)


def _pieces(records: Sequence[Done]) -> Iterator[list[Done]]:
    """The records, so many at a time that their results fit into one packet; one that is larger goes alone."""
    piece, size = list[Done](), 0
    for done in records:
        if piece and (size + done.payload.size > PIECE or len(piece) == MOST):
            yield piece
            piece, size = [], 0
        piece.append(done)
        size += done.payload.size
    if piece:
        yield piece


def _line(entry: Birth | Done) -> str:
    return entry.model_dump_json(exclude_none=True)


def _write(
    target: Fence, token: str, lines: tuple[str, ...], results: tuple[str | bytes, ...], times: int
) -> Protocol[None]:
    log, kept = target.keys.log(token), target.keys.results(token)
    inner: tuple[Command, ...] = (("RPUSH", log, *lines), ("HSET", kept, *results))
    inner = (*inner, *(("PEXPIRE", key, LEFT_MS) for key in (log, kept)))
    commands: tuple[Command, ...] = (("MULTI",), *inner, ("EXEC",))
    replies = yield Packet(commands, patience=times)
    outcome = executed(replies)
    if outcome is None:
        raise_refusal(target.run_id, commands, replies)
    answered(target.run_id, inner, list(outcome))


def _look_once_more(copy: Copy, token: str, size: int, times: int) -> Protocol[tuple[Command, ...] | None]:
    """The packet that makes the run, if all of it is there; ``None``: somebody else has made one.

    What the packet builds on is watched: it is void if that changes, or if its time to live ends.
    """
    target, keys = copy.target, copy.target.keys
    log, results = keys.log(token), keys.results(token)
    look: tuple[Command, ...] = (("WATCH", keys.head, log, results), ("GET", keys.head), ("LLEN", keys.tokens))
    look = (*look, ("EXISTS", keys.tomb), ("LLEN", log), ("HLEN", results))
    _, head, tokens, tomb, lines, stored = yield from exchange(target.run_id, look, times)
    if head is not None or tokens or tomb:
        return None
    if (lines, stored) != (size, size + (copy.input is not None)):
        raise NotNow("what was copied had gone before all of it was there")
    made: tuple[Command, ...] = (("MULTI",), ("SET", keys.head, token), ("RPUSH", keys.tokens, token))
    made = (*made, ("PERSIST", log), ("PERSIST", results), born_command(keys, token, copy.birth))
    return (*made, unbegun_command(keys, token, copy.birth), ("EXEC",))


def _publish(target: Fence, commands: tuple[Command, ...], times: int) -> Protocol[bool | None]:
    replies = yield Packet(commands, held=True, patience=times)
    if isinstance(replies[-1], Refusal):
        if nothing_applied(replies):
            raise_refusal(target.run_id, commands, replies)
        raise Lost(str(replies[-1]))
    return True if executed(replies) is not None else None


def _discard(target: Fence, token: str) -> Protocol[None]:
    """Takes away what was copied under a token that was never a head."""
    try:
        yield Packet((("DEL", *target.keys.data(token)),))
    except (NotSent, Lost):
        return  # it goes by itself

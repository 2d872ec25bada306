"""Looking at a run without claiming it. Every answer counts only under the head that it was read with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol as Interface

from agentcheckpoint.core.kept import Kept
from agentcheckpoint.errors import CheckpointsLost, RunNotFound, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, T, executed
from agentcheckpoint.store.kept import parse_kept
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.loading import Loaded, corrupt, load_commands, lost_head, parse_head, parse_load
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.refusals import NotNow, raise_refusal


class Address(Interface):
    """Which run is read: its keys, and what must be found there."""

    @property
    def keys(self) -> RunKeys: ...
    @property
    def namespace(self) -> str: ...
    @property
    def run_id(self) -> str: ...


class _Moved(Exception):
    """The head changed between being read and being used."""


def snapshot(address: Address, patience: Patience | None = None) -> Protocol[Loaded]:
    """The whole run but its results, as it stood at one moment.

    Raises:
        RunNotFound: there is none (or it was deleted).
        CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """

    head, replies = yield from read_under_head(address, lambda head: load_commands(address.keys, head), patience)
    return parse_load(address.keys, address.namespace, address.run_id, head, replies)


def read_under_head(
    address: Address, questions: Callable[[str], tuple[Command, ...]], patience: Patience | None = None
) -> Protocol[tuple[str, Sequence[Reply]]]:
    """The current token, and the replies to what is asked under it, all of one moment.

    Args:
        address: which run.
        questions: the commands for a token; the last one reads the head.

    Raises:
        RunNotFound, CheckpointsLost, CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """

    def read(times: int) -> Protocol[tuple[str, Sequence[Reply]]]:
        head = yield from _head(address, times)
        return head, (yield from _under(address, head, questions(head), times))

    return (yield from _trying(address, read, patience))


def snapshot_under(address: Address, token: str, times: int) -> Protocol[Loaded]:
    """The whole run but its results, if ``token`` is still its head: one try.

    Raises:
        NotNow: it is not.
        CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused.
    """
    try:
        replies = yield from _under(address, token, load_commands(address.keys, token), times)
    except _Moved as exc:
        raise NotNow(str(exc)) from None
    return parse_load(address.keys, address.namespace, address.run_id, token, replies)


def read_results(
    address: Address, token: str, ids: Iterable[str], patience: Patience | None = None
) -> Protocol[dict[str, bytes]]:
    """The results kept under these ids.

    ``token`` is where they were last seen. An heir renames the keys, so that a later head is followed: what was
    recorded once is never changed.

    Raises:
        RunNotFound: the run was deleted.
        CheckpointsLost: one of them is not there.
        CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """
    wanted, keys = tuple(ids), address.keys

    def questions(token: str) -> tuple[Command, ...]:
        return ("HMGET", keys.results(token), *wanted), ("GET", keys.head)

    here, (values, _) = yield from read_following(address, token, questions, patience)
    if isinstance(values, Refusal):
        raise corrupt(address.run_id, keys.results(here), f"the server answered {values}")
    for entry_id, data in zip(wanted, values, strict=True):
        if not isinstance(data, bytes):
            raise CheckpointsLost(
                f"run {address.run_id!r}: the result {entry_id!r} is recorded and no longer stored. It was evicted or "
                "deleted by somebody else; it is not bought again on its own.",
                run_id=address.run_id,
            )
    return dict(zip(wanted, values, strict=True))


def read_following(
    address: Address, token: str, questions: Callable[[str], tuple[Command, ...]], patience: Patience | None = None
) -> Protocol[tuple[str, Sequence[Reply]]]:
    """The same as ``read_under_head``, in one round trip if ``token`` is the current one still."""
    here = token

    def read(times: int) -> Protocol[tuple[str, Sequence[Reply]]]:
        nonlocal here
        try:
            return here, (yield from _under(address, here, questions(here), times))
        except _Moved:
            here = yield from _head(address, times)
            raise

    return (yield from _trying(address, read, patience))


def was_deleted(address: Address, patience: Patience | None = None) -> Protocol[bool]:
    """Whether the run's tombstone is there."""

    (tomb,) = yield from ask(address, (("EXISTS", address.keys.tomb),), patience)
    return bool(tomb)


def ask(address: Address, commands: tuple[Command, ...], patience: Patience | None = None) -> Protocol[list[Reply]]:
    """The replies to questions about what has no token in its name.

    Raises:
        CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """

    def read(times: int) -> Protocol[list[Reply]]:
        return (yield from _plain(address, commands, times))

    return (yield from _trying(address, read, patience))


def kept_ledger(address: Address, patience: Patience | None = None) -> Protocol[Kept | None]:
    """What is kept of a run that was deleted; ``None``: nothing. No token is in it, and one command reads it.

    Raises:
        CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """

    def read(times: int) -> Protocol[Kept | None]:
        (flat,) = yield from _plain(address, (("HGETALL", address.keys.kept),), times)
        return parse_kept(address.keys, address.namespace, address.run_id, flat)

    return (yield from _trying(address, read, patience))


def _head(address: Address, times: int) -> Protocol[str]:
    keys = address.keys
    # In this order: a run that is made or deleted between two of these is not taken for one that lost its head.
    questions = (("LLEN", keys.tokens), ("GET", keys.head), ("EXISTS", keys.tomb))
    tokens, reply, tomb = yield from _plain(address, questions, times)
    head = parse_head(address.run_id, keys.head, reply)
    if head is not None:
        return head
    if tokens and not tomb:
        raise lost_head(address.run_id, keys.head)
    raise RunNotFound(
        f"run {address.run_id!r} in namespace {address.namespace!r}: "
        f"{'it was deleted' if tomb else 'there is no such run in this store'}.",
        run_id=address.run_id,
    )


def _plain(address: Address, commands: tuple[Command, ...], times: int) -> Protocol[list[Reply]]:
    replies: list[Reply] = yield Packet(commands, patience=times)
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(address.run_id, commands, replies)
    return replies


def _under(address: Address, token: str, commands: tuple[Command, ...], times: int) -> Protocol[Sequence[Reply]]:
    """The replies of ``commands``, the last of which reads the head, if that still is ``token``."""
    transaction: tuple[Command, ...] = (("MULTI",), *commands, ("EXEC",))
    replies = yield Packet(transaction, patience=times)
    outcome = executed(replies)
    if outcome is None:
        raise_refusal(address.run_id, transaction, replies)
    if outcome[-1] != token.encode():
        raise _Moved("it kept changing hands")
    return outcome


def _trying(address: Address, read: Callable[[int], Protocol[T]], patience: Patience | None) -> Protocol[T]:
    trouble: Exception | None = None
    patience = patience or Patience()
    for times, pause in patience.tries():
        try:
            return (yield from read(times))
        except _Moved as exc:
            trouble = exc
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
            yield Pause(pause)
    raise StoreUnavailable(
        f"run {address.run_id!r}: it could not be read in several tries: {trouble}.", run_id=address.run_id
    )

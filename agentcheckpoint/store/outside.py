"""Settling attempts without a claim: beside the log, by attempt id, under a name without a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agentcheckpoint.core.kept import Kept
from agentcheckpoint.core.ledger import fold_entries, logged_money
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import RunNotFound
from agentcheckpoint.store.effects import Command, Protocol
from agentcheckpoint.store.kept import attempt_commands
from agentcheckpoint.store.persisting import exchange, persist
from agentcheckpoint.store.reading import Address, kept_ledger, snapshot


@dataclass(frozen=True, slots=True)
class Books:
    """What is known of each attempt of a run, by its id.

    Attributes:
        logged: what the run's own log says; nothing, if only its ledger was kept.
        now: what counts.
        kept: the ledger, if the run was deleted and its ledger kept.
    """

    logged: Mapping[str, LedgerEntry]
    now: Mapping[str, LedgerEntry]
    kept: Kept | None = None


def settle_outside(
    address: Address, decide: Callable[[Books], Iterable[LedgerEntry]]
) -> Protocol[tuple[LedgerEntry, ...]]:
    """Writes what ``decide`` makes of the run, if nothing that it was shown has changed since.

    A worker that is at the run is not disturbed: what it writes to the log counts more. Sending twice settles once,
    since each attempt has one field.

    Args:
        address: which run.
        decide: the entries to be written; it may be called again, and raises what is wrong.

    Returns:
        The entries that were written.

    Raises:
        RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    keys = address.keys
    written: tuple[LedgerEntry, ...] = ()

    def once(times: int) -> Protocol[tuple[LedgerEntry, ...] | None]:
        nonlocal written
        yield from exchange(address.run_id, (("WATCH", keys.head, keys.waste, keys.kept),), times)
        books = yield from _books(address)
        entries = tuple(decide(books))
        if not entries:
            return written
        written = entries
        commands = (("MULTI",), *_written(address, books, entries), ("EXEC",))
        replies = yield from exchange(address.run_id, commands, times)
        if isinstance(replies[-1], list):
            return written
        written = ()
        return None

    advice = " Do it again: what was settled already is not settled twice."
    return (yield from persist(address.run_id, once, "its attempts could not be settled", advice))


def _books(address: Address) -> Protocol[Books]:
    try:
        loaded = yield from snapshot(address)
    except RunNotFound:
        kept = yield from kept_ledger(address)
        if kept is None:
            raise
        return Books({}, kept.ledger, kept)
    logged = fold_entries(logged_money(loaded.entries))
    return Books(logged, fold_entries(logged_money(loaded.entries), loaded.waste))


def _written(address: Address, books: Books, entries: Iterable[LedgerEntry]) -> tuple[Command, ...]:
    if books.kept is not None:
        attempts = books.kept.attempts
        changed = {entry.id: attempts[entry.id].model_copy(update={"entry": entry}) for entry in entries}
        return attempt_commands(address.keys, changed)
    fields = [part for entry in entries for part in (entry.id, entry.model_dump_json(exclude_none=True))]
    return (("HSET", address.keys.waste, *fields),)

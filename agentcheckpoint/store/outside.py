"""Settling attempts without a claim: beside the log, by attempt id, under a name without a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agentcheckpoint.core.kept import Kept
from agentcheckpoint.core.ledger import fold_entries, logged_money
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import RunNotFound, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal
from agentcheckpoint.store.kept import attempt_commands
from agentcheckpoint.store.reading import Address, kept_ledger, snapshot
from agentcheckpoint.store.refusals import NotNow, raise_refusal

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds between tries."""


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
    trouble: Exception = NotNow("it kept changing")
    written: tuple[LedgerEntry, ...] = ()
    for patience, pause in enumerate(PAUSES, start=1):
        try:
            watched = (address.keys.head, address.keys.waste, address.keys.kept)
            yield from _exchange(address, (("WATCH", *watched),), patience)
            books = yield from _books(address)
            entries = tuple(decide(books))
            if not entries:
                return written
            written = entries
            commands = (("MULTI",), *_written(address, books, entries), ("EXEC",))
            if isinstance((yield from _exchange(address, commands, patience)), list):
                return written
            written = ()
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            yield Pause(pause)
    raise StoreUnavailable(
        f"run {address.run_id!r}: its attempts could not be settled in {len(PAUSES)} tries: {trouble}. Do it again: "
        "what was settled already is not settled twice.",
        run_id=address.run_id,
    )


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


def _exchange(address: Address, commands: tuple[Command, ...], patience: int) -> Protocol[object]:
    """The last reply."""
    replies = yield Packet(commands, held=True, patience=patience)
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(address.run_id, commands, replies)
    return replies[-1]

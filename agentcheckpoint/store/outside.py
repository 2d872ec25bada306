"""Settling attempts without a claim: beside the log, by attempt id, under a name without a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.reading import Address, snapshot
from agentcheckpoint.store.refusals import NotNow, raise_refusal

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds between tries."""


def settle_outside(
    address: Address, decide: Callable[[Loaded], Iterable[LedgerEntry]]
) -> Protocol[tuple[LedgerEntry, ...]]:
    """Writes what ``decide`` makes of the run, if neither head nor waste has changed since the run was read.

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
            yield from _exchange(address, (("WATCH", address.keys.head, address.keys.waste),), patience)
            entries = tuple(decide((yield from snapshot(address))))
            if not entries:
                return written
            written = entries
            fields = [part for entry in entries for part in (entry.id, entry.model_dump_json(exclude_none=True))]
            commands: tuple[Command, ...] = (("MULTI",), ("HSET", address.keys.waste, *fields), ("EXEC",))
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


def _exchange(address: Address, commands: tuple[Command, ...], patience: int) -> Protocol[object]:
    """The last reply."""
    replies = yield Packet(commands, held=True, patience=patience)
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(address.run_id, commands, replies)
    return replies[-1]

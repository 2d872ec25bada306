"""The records of a shared budget: one entry per attempt, and the sums of them as a cache that is checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from agentcheckpoint.core.budget import Sums, Tally, counted
from agentcheckpoint.core.models import SCHEMA, LedgerEntry, Record

State: TypeAlias = Literal["reserved", "unresolved", "paid", "wasted", "released"]
"""*Reserved*: its worst case is kept free. *Unresolved*: it may have been billed. *Released*: it cost nothing."""

OPEN: frozenset[State] = frozenset({"reserved", "unresolved"})
"""What becomes of these is still to be learned from the ledger of their run."""


class Reservation(Record):
    """What one attempt takes of a shared budget: its worst case, and once it is settled, what it cost."""

    v: int = SCHEMA
    state: State
    usd: int = 0
    """Nano-dollars."""
    tokens: int = 0
    namespace: str
    run: str
    step: str
    until: int
    """From then on, on the store's clock, in milliseconds, whoever needs room looks into the run's ledger."""

    @property
    def sums(self) -> Sums:
        """What it counts for."""
        return Sums() if self.state == "released" else Sums(self.usd, self.tokens, 1)

    def outcome(self, entry: LedgerEntry) -> Reservation:
        """The same, once the ledger says what became of the attempt."""
        sums = counted(entry)
        state: State = "released" if entry.bill == "not_billed" else entry.bill
        return self.model_copy(update={"state": state, "usd": sums.usd, "tokens": sums.tokens})


class Book(Record):
    """Whose budget it is, and in which window; and the sums of its reservations."""

    v: int = SCHEMA
    namespace: str
    name: str
    window: str
    usd: int = 0
    tokens: int = 0
    calls: int = 0
    entries: int = 0

    @property
    def sums(self) -> Sums:
        return Sums(self.usd, self.tokens, self.calls)

    def with_sums(self, sums: Sums, entries: int) -> Book:
        """The same book with other sums."""
        changed = {"usd": sums.usd, "tokens": sums.tokens, "calls": sums.calls, "entries": entries}
        return self.model_copy(update=changed)


def tally(reservations: Iterable[Reservation]) -> Tally:
    """What the reservations count for, by what became of them."""
    sums = {"paid": Sums(), "wasted": Sums(), "unresolved": Sums(), "reserved": Sums()}
    for one in reservations:
        if one.state != "released":
            sums[one.state] += one.sums
    return Tally(**sums)

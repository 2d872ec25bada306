"""What is kept of a deleted run: its money, attempt by attempt, and what it is counted under. None of its contents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from agentcheckpoint.core.ids import names_in
from agentcheckpoint.core.models import SCHEMA, LedgerEntry, LogEntry, Natural, Record, RunState, Sum
from agentcheckpoint.core.spending import Item, Saved, Spent, account

Version = Annotated[int, Field(ge=1)]


class KeptSaving(Record):
    """What one attempt of the run did not pay, since it replayed."""

    nano: Sum = 0
    replayed: Natural = 0
    at: Natural = 0
    tags: tuple[str, ...] = ()


class KeptRun(Record):
    """Whose ledger it is."""

    v: Version = SCHEMA
    namespace: str
    run: str
    state: RunState
    at: Natural
    """When the run was deleted, milliseconds since the epoch on the server's clock."""
    agent: str | None = None
    saved: tuple[KeptSaving, ...] = ()


class KeptAttempt(Record):
    """One attempt to buy an answer. Its slot has the names of its steps alone: a key may be somebody's data."""

    v: Version = SCHEMA
    entry: LedgerEntry
    attempt: Natural | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """The ledger of a deleted run.

    Attributes:
        about: whose it is.
        attempts: by their ids.
    """

    about: KeptRun
    attempts: Mapping[str, KeptAttempt]

    @property
    def ledger(self) -> dict[str, LedgerEntry]:
        """The entries, by their ids."""
        return {entry_id: attempt.entry for entry_id, attempt in self.attempts.items()}

    def items(self) -> list[Item]:
        """What was spent and saved, as ``account`` says it of a run that is there."""
        about = self.about
        return [
            *(Saved(about.run, about.agent, one.tags, one.nano, one.replayed, one.at) for one in about.saved),
            *(
                Spent(about.run, about.agent, one.tags, one.attempt, one.entry, is_deleted=True)
                for one in self.attempts.values()
            ),
        ]


def keep(
    namespace: str,
    run: str,
    state: RunState,
    entries: Sequence[LogEntry],
    outside: Iterable[LedgerEntry],
    now_ms: int,
) -> Kept:
    """What is to be kept of a run whose log and waste are these."""
    items = account(run, entries, outside)
    savings = tuple(
        KeptSaving(nano=item.nano, replayed=item.replayed, at=item.at, tags=item.tags)
        for item in items
        if isinstance(item, Saved)
    )
    attempts = {
        item.entry.id: KeptAttempt(entry=_without_keys(item.entry), attempt=item.attempt, tags=item.tags)
        for item in items
        if isinstance(item, Spent)
    }
    agent = next((item.agent for item in items), None)
    return Kept(KeptRun(namespace=namespace, run=run, state=state, at=now_ms, agent=agent, saved=savings), attempts)


def _without_keys(entry: LedgerEntry) -> LedgerEntry:
    return entry.model_copy(update={"slot": names_in(entry.slot)})

"""Looking at a run, and deleting one, without working on it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from agentcheckpoint.core import ids
from agentcheckpoint.core.attempt_rows import AttemptRow, attempt_rows
from agentcheckpoint.core.kept import Kept, keep
from agentcheckpoint.core.ledger import CostReport, fold_entries, logged_money, report
from agentcheckpoint.core.lifecycle import about, since_restart
from agentcheckpoint.core.models import Birth, Closed, LedgerEntry, LogEntry, Origin, RunState
from agentcheckpoint.core.retention import RunSize
from agentcheckpoint.core.shown import Records, Shown
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import RunNotFound
from agentcheckpoint.explain import busy_error
from agentcheckpoint.show.card import RunFacts, run_card
from agentcheckpoint.show.cursor_rows import CursorRow, cursor_rows
from agentcheckpoint.show.layout import cut, plain
from agentcheckpoint.show.records import step_record
from agentcheckpoint.show.text import StepRow, step_rows, table
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.garbage import uncollected
from agentcheckpoint.store.index import unlist_runs
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.reading import snapshot
from agentcheckpoint.store.upkeep import delete_run, forget_ledger

WIDTH = 100
"""Columns that a run's table may take."""
SHOWN = 10
"""Steps under way that its text names."""


@dataclass(frozen=True, slots=True)
class RunView(Shown, Records):
    """A run as it stood when it was looked at.

    Attributes:
        id, namespace: which run.
        agent: whose run it is; ``None``: it was opened by ``ac.run``.
        metadata, conversation: what was noted when it was begun.
        state: running, retryable, waiting, interrupted, completed, failed or cancelled. A run whose worker died stays
            running until it is opened again.
        attempt: the number of the last attempt.
        cost: what was spent by all attempts, and what the attempts that ended saved by replaying.
        steps: one row per step, in the order in which they first ran.
        cursors: the steps that are under way, each with how far it has come; the one that was set last first.
        attempts: one row per attempt of the run: who made it, how it ended, what it gained and what it cost.
        entries: the whole log, in its order.
        ledger: each attempt to buy an answer, once, with what became of it.
        size: the bytes of what is stored: its log, its results, and what is booked beside the log.
        origin: the run, and the step in it, that it was forked from; ``None``: it is no fork.
    """

    id: str
    namespace: str
    agent: str | None
    metadata: Mapping[str, str]
    conversation: str | None
    state: str
    attempt: int
    cost: CostReport
    steps: tuple[StepRow, ...]
    attempts: tuple[AttemptRow, ...]
    entries: tuple[LogEntry, ...]
    ledger: tuple[LedgerEntry, ...]
    size: RunSize
    origin: Origin | None = None
    cursors: tuple[CursorRow, ...] = ()

    def __str__(self) -> str:
        head = f"run {plain(self.id)} · {plain(self.state)} · attempt {self.attempt} · {self.cost}"
        if self.origin is not None:
            head += f"\nforked from {plain(self.origin.run)} after {plain(self.origin.after)}"
        under_way = [f"\n{cut(str(row), WIDTH)}" for row in self.cursors[:SHOWN]]
        if len(self.cursors) > SHOWN:
            under_way.append(f"\nin progress: {len(self.cursors) - SHOWN:,} more")
        return f"{head}\n{table(self.steps, WIDTH)}{''.join(under_way)}"

    def _repr_html_(self) -> str:
        return str(run_card(RunFacts(self.id, self.state, self.attempt, self.cost, self.entries)))

    def to_records(self) -> list[dict[str, Any]]:
        """One record for each step, as ``agentcheckpoint steps -o json`` has it; ``None`` for what is unknown."""
        return [step_record(row) for row in self.steps]


@dataclass(frozen=True, slots=True)
class Address:
    """Which run is meant."""

    keys: RunKeys
    namespace: str
    run_id: str


def get(run_id: str, /, *, store: Connectable = None, namespace: str = "default") -> RunView:
    """Looks at a run, whoever works on it. Blocking: on an event loop, use ``asyncio.to_thread``.

    Args:
        run_id: the run's name.
        store: as in ``ac.run``.
        namespace: as in ``ac.run``.

    Raises:
        RunNotFound: there is no such run, or it was deleted.
        CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    address = address_of(run_id, namespace)
    where = connect(store)
    with uncollected():
        return _view(address, where.run(snapshot(address)))


def delete(run_id: str, /, *, keep_ledger: bool = False, store: Connectable = None, namespace: str = "default") -> None:
    """Deletes a run with all its checkpoints. Blocking: on an event loop, use ``asyncio.to_thread``.

    Its id stays taken: a worker that was paused since then cannot mistake a new run for its own. Of a run that was
    deleted already it deletes the ledger that was kept.

    Args:
        run_id: the run's name.
        keep_ledger: keep what ``ac.costs`` counts, and nothing else: each attempt to buy an answer, with its step's
            name but not its key, and under which agent, tags and day it counts.
        store: as in ``ac.run``.
        namespace: as in ``ac.run``.

    Raises:
        RunNotFound: there is no such run.
        RunBusy: somebody who is alive is working on it.
        CheckpointCorrupt, SchemaTooNew: its head or lease is not ours, or a newer version has worked on it.
        CheckpointCorrupt, CheckpointsLost: its ledger is to be kept and cannot be read.
        StoreRefused, StoreUnavailable.
    """
    address, where = address_of(run_id, namespace), connect(store)
    kept: list[Kept] = []

    def decide(loaded: Loaded) -> Kept:
        kept[:] = [kept_of(address, loaded)]
        return kept[0]

    try:
        busy = where.run(delete_run(address, new_stamp(), released_here, decide if keep_ledger else None))
    except RunNotFound:
        if keep_ledger:
            raise
        found = where.run(forget_ledger(address))
        where.run(unlist_runs(namespace, (run_id,)))
        if not found:
            raise
        return
    if busy is not None:
        raise busy_error(run_id, busy.holder, busy.ttl)
    where.run(unlist_runs(namespace, (run_id,), kept_at_ms=kept[0].about.at if kept else None))


def new_stamp() -> str:
    """What a tombstone says: when the run was deleted on this machine's clock, and by which call."""
    return f"{int(time.time() * 1000)} {secrets.token_hex(8)}"


def kept_of(address: Address, loaded: Loaded) -> Kept:
    """What is kept of a run that is deleted."""
    state = cast(RunState, loaded.meta["state"])
    return keep(address.namespace, address.run_id, state, loaded.entries, loaded.waste, loaded.now_ms)


def address_of(run_id: str, namespace: str) -> Address:
    """The run of that name. Raises ``InvalidName``."""
    return Address(RunKeys(ids.run_tag(namespace, run_id)), namespace, run_id)


def _view(address: Address, loaded: Loaded) -> RunView:
    folded = fold_entries(logged_money(loaded.entries), loaded.waste)
    current = since_restart(loaded.entries)
    begun = about(current)
    ends = [entry for entry in loaded.entries if isinstance(entry, Closed)]
    return RunView(
        id=address.run_id,
        namespace=address.namespace,
        agent=begun.agent if begun is not None else None,
        metadata=(begun.metadata if begun is not None else None) or {},
        conversation=begun.conversation if begun is not None else None,
        state=loaded.meta["state"],
        attempt=int(loaded.meta["attempt"]),
        cost=report(
            folded,
            saved=sum(end.saved for end in ends),
            replayed=sum(end.replayed for end in ends),
            saved_unpriced=sum(end.saved_unpriced for end in ends),
        ),
        steps=tuple(step_rows(current)),
        attempts=tuple(attempt_rows(loaded.entries, folded)),
        entries=loaded.entries,
        ledger=tuple(folded.values()),
        size=loaded.size,
        origin=birth.origin if isinstance(birth := loaded.entries[0], Birth) else None,
        cursors=tuple(cursor_rows(loaded.meta, begun.id if begun is not None else "")),
    )

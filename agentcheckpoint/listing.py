"""The runs of a namespace, the one that was opened last first: for ``agentcheckpoint runs`` and ``%agentruns``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentcheckpoint.core import ids
from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.spending import iso_time
from agentcheckpoint.errors import CheckpointCorrupt, CheckpointsLost, InvalidName, RunNotFound, SchemaTooNew
from agentcheckpoint.show.layout import Column, lay_out, plain
from agentcheckpoint.show.records import cost_record
from agentcheckpoint.show.text import spent_text
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.glimpse import Glimpse, look_at
from agentcheckpoint.store.index import Listed, newest
from agentcheckpoint.store.store import Store
from agentcheckpoint.view import RunView, address_of, get

PAGE = 50
"""How many runs are looked at together."""


@dataclass(slots=True)
class Listing:
    """Runs, read one after the other as they are asked for: the last ones alone are read, however many there are.

    Attributes:
        store, namespace: whose runs.
        state, agent, conversation: those of this alone; ``None``: of any.
        before_ms: those that were last opened before, milliseconds since the epoch; ``None``: up to now.
        notes: what could not be read.
    """

    store: Store
    namespace: str
    state: str | None = None
    agent: str | None = None
    conversation: str | None = None
    before_ms: int | None = None
    notes: list[str] = field(default_factory=list[str])

    def __iter__(self) -> Iterator[RunView]:
        for listed in self._listed():
            try:
                seen = get(listed.run_id, store=self.store, namespace=self.namespace)
            except RunNotFound:
                continue  # deleted, and its line is late
            except (CheckpointCorrupt, CheckpointsLost, SchemaTooNew, InvalidName) as exc:
                self.notes.append(f"not shown: {plain(str(exc))}")
                continue
            if (
                self.state in (None, seen.state)
                and self.agent in (None, seen.agent)
                and self.conversation in (None, seen.conversation)
            ):
                yield seen

    def _listed(self) -> Iterator[Listed]:
        """The lines of the list, page by page. A run that is opened meanwhile may come a second time: it is left out.

        Runs of one millisecond may be on both sides of a page: the next one begins with that millisecond again.
        """
        seen: set[str] = set()
        before, asked = self.before_ms, PAGE
        while True:
            page = self.store.run(newest(self.namespace, asked, before))
            new = [listed for listed in page if listed.run_id not in seen]
            seen |= {listed.run_id for listed in new}
            yield from self._of_that_state(new)
            if len(page) < asked:
                return
            before = page[-1].at_ms + 1
            asked = PAGE + sum(listed.at_ms == page[-1].at_ms for listed in page)

    def _of_that_state(self, page: list[Listed]) -> Iterator[Listed]:
        """A short look, where that is enough to leave a run out; what cannot be read is not left out."""
        valid = [listed for listed in page if _is_valid(listed.run_id)]
        if self.state is None or not valid:
            yield from page
            return
        addresses = [address_of(listed.run_id, self.namespace) for listed in valid]
        _, sights = self.store.run(look_at(addresses))
        for listed, sight in zip(valid, sights, strict=True):
            if not isinstance(sight, Glimpse) or sight.state == self.state:
                yield listed


def _is_valid(run_id: str) -> bool:
    try:
        ids.check_run_id(run_id)
    except InvalidName:
        return False
    return True


def list_runs(
    *,
    state: str | None = None,
    agent: str | None = None,
    conversation: str | None = None,
    before_ms: int | None = None,
    store: Connectable = None,
    namespace: str = "default",
) -> Listing:
    """The runs of a namespace, the one that was opened last first; read as the list is gone through. Blocking.

    Raises:
        InvalidName: there can be no such namespace.
        StoreRefused, StoreUnavailable: now, or while it is gone through.
    """
    return Listing(connect(store), ids.check_namespace(namespace), state, agent, conversation, before_ms)


def run_record(run: RunView) -> dict[str, Any]:
    """A run in a list. ``steps`` counts those that are done; ``cost`` has the keys of ``cost_record``."""
    return {
        "run": run.id,
        "namespace": run.namespace,
        "state": run.state,
        "agent": run.agent,
        "conversation": run.conversation,
        "metadata": dict(run.metadata),
        "attempt": run.attempt,
        "steps": _steps_done(run),
        "begun": iso_time(run.entries[0].at),
        "opened": iso_time(run.attempts[-1].began if run.attempts else None),
        "last": iso_time(run.entries[-1].at),
        "cost": cost_record(run.cost),
    }


def _steps_done(run: RunView) -> int:
    return sum(row.outcome in ("done", "overridden") for row in run.steps)


TITLES = ("run", "state", "agent", "age", "attempts", "steps", "cost", "saved")
_KEEP = (9, 8, 5, 4, 6, 2, 7, 3)
"""Of the columns of a table: the lowest goes first where there is no room."""


def cells_of(run: RunView) -> tuple[str, ...]:
    """What a table says of a run, under ``TITLES``; names as stored, not escaped."""
    return (
        run.id,
        run.state,
        run.agent or "",
        age_text(run.entries[0].at),
        str(run.attempt),
        f"{_steps_done(run):,}",
        spent_text(run.cost),
        money(run.cost.saved) if run.cost.saved else "",
    )


def table(runs: Sequence[RunView], width: int) -> str:
    """The runs as plain text, in lines of so many columns at most, with every control character escaped."""
    lines = [TITLES, *(tuple(plain(cell) for cell in cells_of(run)) for run in runs)]
    return lay_out([Column([line[n] for line in lines], keep, right=n > 2) for n, keep in enumerate(_KEEP)], width)


def age_text(ms: int) -> str:
    """How long ago a moment of the store's clock was, on this machine's."""
    seconds = max(0, int(time.time() - ms / 1000))
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{letter}"
    return f"{seconds}s"

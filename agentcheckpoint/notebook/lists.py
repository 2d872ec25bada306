"""The runs that were opened last, as ``%agentruns`` shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agentcheckpoint.core.markup import grid
from agentcheckpoint.core.shown import Records, Shown
from agentcheckpoint.core.spending import usd
from agentcheckpoint.errors import AgentCheckpointError, RunNotFound
from agentcheckpoint.show.card import LONGEST, card, mark
from agentcheckpoint.show.layout import Column, cut, lay_out, plain
from agentcheckpoint.store.connect import connect
from agentcheckpoint.store.index import listed_runs
from agentcheckpoint.view import WIDTH, RunView, get

NAMESPACE = "default"
TITLES = ("run", "state", "agent", "attempt", "steps", "cost")
_KEEP = (9, 8, 2, 4, 5, 7)


@dataclass(frozen=True, slots=True)
class RunList(Shown, Records):
    """Runs, the one that was opened last first.

    Attributes:
        runs: those that could be read.
        unread: what is wrong with the others.
    """

    runs: tuple[RunView, ...]
    unread: tuple[str, ...] = ()

    def to_records(self) -> list[dict[str, Any]]:
        """One record for each run."""
        return [
            {
                "run": seen.id,
                "state": seen.state,
                "agent": seen.agent,
                "attempt": seen.attempt,
                "steps": len(seen.steps),
                "spent_usd": usd(seen.cost.spent),
                "unpriced": seen.cost.unpriced,
            }
            for seen in self.runs
        ]

    def __str__(self) -> str:
        lines = [TITLES, *(tuple(plain(cell) for cell in _cells(seen)) for seen in self.runs)]
        columns = [Column([line[n] for line in lines], _KEEP[n], right=n > 2) for n in range(len(TITLES))]
        table = lay_out(columns, WIDTH) if self.runs else "no runs"
        return "\n".join([table, *(f"note: {plain(note)}" for note in self.unread)])

    def _repr_html_(self) -> str:
        lines = [(cut(run, LONGEST), mark(state), *rest) for run, state, *rest in map(_cells, self.runs)]
        return str(
            card("", "runs", [grid(TITLES, [*lines, *((note, "", "", "", "", "") for note in self.unread)], words=3)])
        )


def _cells(seen: RunView) -> tuple[str, ...]:
    return seen.id, seen.state, seen.agent or "", str(seen.attempt), f"{len(seen.steps):,}", str(seen.cost)


def recent_runs(most: int) -> RunList:
    """The runs of the default store that were opened last.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    store = connect()
    found, unread = list[RunView](), list[str]()
    for run_id in _newest(list(listed_runs(store, NAMESPACE)), most):
        try:
            found.append(get(run_id, store=store))
        except RunNotFound:
            continue  # deleted meanwhile
        except AgentCheckpointError as exc:
            unread.append(f"{run_id}: {exc}")
    return RunList(tuple(found), tuple(unread))


def _newest(listed: list[str], most: int) -> Iterator[str]:
    return iter(listed[: -most - 1 : -1])

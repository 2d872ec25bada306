"""The runs that were opened last, as ``%agentruns`` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from agentcheckpoint.core.markup import grid
from agentcheckpoint.core.shown import Records, Shown
from agentcheckpoint.listing import list_runs, run_record
from agentcheckpoint.show.card import LONGEST, card, mark
from agentcheckpoint.show.layout import Column, cut, lay_out, plain
from agentcheckpoint.view import WIDTH, RunView

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
        """One record for each run, as ``agentcheckpoint runs -o json`` has it, but flat: its sums are values too."""
        records = [run_record(seen) for seen in self.runs]
        return [{**record, **record.pop("cost")} for record in records]

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
    steps = f"{run_record(seen)['steps']:,}"
    return seen.id, seen.state, seen.agent or "", str(seen.attempt), steps, str(seen.cost)


def recent_runs(most: int) -> RunList:
    """The runs of the default store that were opened last.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    listing = list_runs()
    return RunList(tuple(islice(listing, most)), tuple(listing.notes))

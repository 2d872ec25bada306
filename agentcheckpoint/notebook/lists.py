"""The runs that were opened last, as ``%agentruns`` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from agentcheckpoint.core.markup import grid
from agentcheckpoint.core.shown import Records, Shown
from agentcheckpoint.listing import TITLES, cells_of, list_runs, run_record, table
from agentcheckpoint.show.card import LONGEST, card, mark
from agentcheckpoint.show.layout import cut, plain
from agentcheckpoint.view import WIDTH, RunView


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
        shown = table(self.runs, WIDTH) if self.runs else "no runs"
        return "\n".join([shown, *(f"note: {plain(note)}" for note in self.unread)])

    def _repr_html_(self) -> str:
        lines = [(cut(run, LONGEST), mark(state), *rest) for run, state, *rest in map(cells_of, self.runs)]
        notes = [(note, *[""] * (len(TITLES) - 1)) for note in self.unread]
        return str(card("", "runs", [grid(TITLES, [*lines, *notes], words=3)]))


def recent_runs(most: int) -> RunList:
    """The runs of the default store that were opened last.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    listing = list_runs()
    return RunList(tuple(islice(listing, most)), tuple(listing.notes))

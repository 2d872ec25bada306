"""``ac.costs`` and ``ac.export_ledger``: what one or all runs cost, as sums and as single attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal, TextIO, TypeAlias, get_args

from agentcheckpoint.core.cost_rows import CostRow, Tally, row_record
from agentcheckpoint.core.price import Price
from agentcheckpoint.core.shown import Records, Shown
from agentcheckpoint.core.spending import By, Spent, attempt_record
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.show.chart import cost_chart
from agentcheckpoint.show.cost_table import cost_html, cost_text
from agentcheckpoint.show.rows import CsvRows, JsonRows, json_text
from agentcheckpoint.store.connect import Connectable
from agentcheckpoint.survey import Moment, survey

Format: TypeAlias = Literal["csv", "jsonl"]

WIDTH = 80
"""Columns that a printed table may take."""
MOST_ROWS = 50
"""How many rows a printed or drawn table has; the others are one more."""


@dataclass(frozen=True, slots=True)
class CostTable(Shown, Records):
    """Costs summed by a key.

    Attributes:
        by: run, agent, model, step, tag or day (in UTC).
        rows: one for each key; days in their order, else the dearest first.
        total: each attempt once. An attempt with several tags counts in the row of each of them.
        notes: runs that could not be read, and what else is to be known.
    """

    by: By
    rows: tuple[CostRow, ...]
    total: CostRow
    notes: tuple[str, ...] = ()

    def to_records(self) -> list[dict[str, Any]]:
        """One record for each row: dollars as exact decimals, tokens by kind, ``None`` for what is unknown."""
        return [row_record(row, self.by) for row in self.rows]

    def to_csv(self) -> str:
        """The records as CSV, with a line of titles. A text that a spreadsheet would take for a formula gets a '."""
        out = StringIO(newline="")
        lines = CsvRows(out, row_record(self.total, self.by))
        for record in self.to_records():
            lines.write(record)
        return out.getvalue()

    def to_jsonl(self) -> str:
        """The records as lines of JSON; dollars are strings, which lose no digit."""
        out = StringIO()
        lines = JsonRows(out)
        for record in self.to_records():
            lines.write(record)
        return out.getvalue()

    def to_json(self) -> str:
        """All of it as one JSON object: by, rows, total and notes."""
        total = {name: value for name, value in row_record(self.total, self.by).items() if name != self.by}
        whole = {"by": self.by, "rows": self.to_records(), "total": total, "notes": self.notes}
        return json_text(whole, indent=2)

    def to_svg(self) -> str:
        """A bar for each row: what was paid, wasted, and may have been billed."""
        return str(cost_chart(self.by, self.rows[:MOST_ROWS]))

    def __str__(self) -> str:
        return cost_text(self.by, self.rows, self.total, self.notes, WIDTH, MOST_ROWS)

    def _repr_html_(self) -> str:
        return str(cost_html(self.by, self.rows, self.total, self.notes, MOST_ROWS))


def costs(
    *,
    by: By = "model",
    runs: str | Iterable[str] | None = None,
    since: Moment = None,
    until: Moment = None,
    agent: str | None = None,
    tag: str | None = None,
    prices: Mapping[str, Price] | None = None,
    store: Connectable = None,
    namespace: str = "default",
) -> CostTable:
    """What runs cost, summed by model, agent, step, tag, day or run. Blocking: on an event loop, use
    ``asyncio.to_thread``.

    Runs are read one after the other, whoever works on them, and only their sums are kept. One that cannot be read is
    named in a note; if you ask for one alone, what is wrong with it is raised.

    Args:
        by: ``"run"``, ``"agent"``, ``"model"`` (as asked for), ``"step"`` (its name, without key and number),
            ``"tag"`` or ``"day"`` (in UTC, on the store's clock).
        runs: one id, or several; all of the namespace by default.
        since: from then on: a time with its zone, or a day in UTC. What counts is when an attempt was sent.
        until: before then.
        agent: runs of this agent alone.
        tag: attempts with this tag alone.
        prices: your own prices by model, for attempts whose cost is unknown and for the models that it names. What is
            recorded stays as it is.
        store: as in ``ac.run``.
        namespace: as in ``ac.run``.

    Raises:
        RunMisuse: there is no such sum, or a time has no zone.
        InvalidName: there can be no such run or namespace.
        RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew: the one run that was asked for.
        StoreRefused, StoreUnavailable.
    """
    if by not in get_args(By):
        raise RunMisuse(f"by={by!r}: it is one of {', '.join(map(repr, get_args(By)))}.")
    found = survey(runs, since, until, agent, tag, prices, store, namespace)
    tally = Tally(by)
    for items in found:
        tally.add(items)
    return CostTable(by, tuple(tally.rows()), tally.total, found.notes)


def export_ledger(
    file: TextIO,
    *,
    format: Format = "csv",
    runs: str | Iterable[str] | None = None,
    since: Moment = None,
    until: Moment = None,
    agent: str | None = None,
    tag: str | None = None,
    prices: Mapping[str, Price] | None = None,
    store: Connectable = None,
    namespace: str = "default",
) -> tuple[str, ...]:
    """Writes every attempt to buy an answer, a line each, with all that is recorded of it. Blocking.

    Args:
        file: a text file, open for writing; for CSV opened with ``newline=""``.
        format: ``"csv"`` (a line of titles first) or ``"jsonl"``.
        runs, since, until, agent, tag, prices, store, namespace: as in ``ac.costs``.

    Returns:
        Notes: runs that could not be read.

    Raises:
        What ``ac.costs`` raises.
    """
    if format not in get_args(Format):
        raise RunMisuse(f"format={format!r}: it is one of {', '.join(map(repr, get_args(Format)))}.")
    found = survey(runs, since, until, agent, tag, prices, store, namespace)
    lines = CsvRows(file, attempt_record(None)) if format == "csv" else JsonRows(file)
    for items in found:
        for item in items:
            if isinstance(item, Spent):
                lines.write(attempt_record(item))
    return found.notes

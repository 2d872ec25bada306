"""``python -m benchmarks.peers install DIR`` installs the peers; ``run DIR`` measures them into docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from ..page import machine, write_part
from .environment import install
from .measuring import Measured, measure
from .table import OURS

HEADING = (
    "| what | a step, µs | spread | beside ours | resume, ms | spread |",
    "| --- | --- | --- | --- | --- | --- |",
)


def main() -> int:
    """Does what it is told; the exit code is 1 if a peer could not be installed or measured."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    options.add_argument("what", choices=("install", "run"))
    options.add_argument("directory", type=Path, help="of the peers' own environment")
    options.add_argument("--rounds", type=int, default=7, help="at least 5, to be trusted")
    options.add_argument("--steps", type=int, default=200, help="of the run that each round does")
    options.add_argument("--recorded", type=int, default=2_000, help="of the run that each round resumes")
    options.add_argument("-o", "--output", choices=("page", "json"), default="page", help="or one JSON object per peer")
    given = options.parse_args()
    if given.what == "install":
        return 0 if install(given.directory) else 1
    load = os.getloadavg()[0]
    table = measure(given.directory, given.rounds, given.steps, given.recorded)
    if given.output == "json":
        for row in table:
            print(json.dumps(as_json(row), ensure_ascii=False))
    else:
        write_part("peers", _section(table, given, load))
    return 1 if any(row.unknown for row in table) else 0


def as_json(row: Measured) -> dict[str, object]:
    """What ``-o json`` prints of it: seconds, of each round."""
    known = {"versions": row.versions, "steps": row.steps, "resumes": row.resumes}
    return {"name": row.peer.name, **({"unknown": row.unknown} if row.unknown else known)}


def _section(table: Sequence[Measured], given: argparse.Namespace, load: float) -> str:
    ours = next(row for row in table if row.peer is OURS)
    versions = dict.fromkeys(name for row in table for name in row.versions.split(", ") if name)
    how = (
        f"{given.rounds} rounds by turns, in each a run of {given.steps} steps, and the resume of a run of "
        f"{given.recorded:,}. Median, and the least and the greatest; beside ours: the median of the rounds' ratios."
    )
    lines = (*HEADING, *(_line(row, ours) for row in table))
    told = (fill(f"- **{row.peer.name}.** {row.peer.differs}", 120, subsequent_indent="  ") for row in table)
    return "\n\n".join((fill(machine(versions, load), 120), fill(how, 120), "\n".join(lines), "\n".join(told)))


def _line(row: Measured, ours: Measured) -> str:
    if row.unknown:
        return f"| {row.peer.name} | unknown | {row.unknown.replace('|', ' ')} | | | |"
    beside = statistics.median(theirs / mine for theirs, mine in zip(row.steps, ours.steps, strict=False))
    return f"| {row.peer.name} | {_cells(row.steps, 1e6)} | {beside:.1f} x | {_cells(row.resumes, 1e3)} |"


def _cells(seconds: Sequence[float], unit: float) -> str:
    def shown(value: float) -> str:
        return f"{value * unit:,.{0 if value * unit >= 10 else 1}f}"

    return f"{shown(statistics.median(seconds))} | {shown(min(seconds))} to {shown(max(seconds))}"


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks.peers install DIR`` installs the peers; ``run DIR`` measures them into docs/performance.md."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from ..page import machine, write_part
from .environment import install
from .measuring import Measured, measure
from .table import OURS

HEADING = (
    "| what | a step, µs | spread | beside ours | resume, ms | spread | what it does |",
    "| --- | --- | --- | --- | --- | --- | --- |",
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
    about = machine(())
    table = measure(given.directory, given.rounds, given.steps, given.recorded)
    if given.output == "json":
        for row in table:
            print(json.dumps(as_json(row), ensure_ascii=False))
    else:
        write_part("peers", _section(about, table, given))
    return 1 if any(row.unknown for row in table) else 0


def as_json(row: Measured) -> dict[str, object]:
    """What ``-o json`` prints of it: seconds, of each round."""
    known = {"versions": row.versions, "steps": row.steps, "resumes": row.resumes}
    return {"name": row.peer.name, **({"unknown": row.unknown} if row.unknown else known)}


def _section(about: str, table: Sequence[Measured], given: argparse.Namespace) -> str:
    ours = next(row for row in table if row.peer is OURS)
    versions = dict.fromkeys(name for row in table for name in row.versions.split(", ") if name)
    what = (
        f"{given.rounds} rounds by turns, in each a run of {given.steps} steps, and the resume of a run of "
        f"{given.recorded:,}. Median, and the least and the greatest."
    )
    lines = [_line(row, ours) for row in table]
    return "\n".join((f"{about} {', '.join(versions)}.\n\n{what}\n", *HEADING, *lines))


def _line(row: Measured, ours: Measured) -> str:
    name, differs = row.peer.name, row.peer.differs
    if row.unknown:
        return f"| {name} | unknown | | | unknown | | not measured: {row.unknown.replace('|', ' ')} |"
    beside = statistics.median(theirs / mine for theirs, mine in zip(row.steps, ours.steps, strict=False))
    step, resume = _cells(row.steps, 1e6), _cells(row.resumes, 1e3)
    return f"| {name} | {step} | {beside:.1f} x | {resume} | {differs} |"


def _cells(seconds: Sequence[float], unit: float) -> str:
    def shown(value: float) -> str:
        return f"{value * unit:,.{0 if value * unit >= 10 else 1}f}"

    return f"{shown(statistics.median(seconds))} | {shown(min(seconds))} to {shown(max(seconds))}"


if __name__ == "__main__":
    sys.exit(main())

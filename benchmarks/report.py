"""``python -m benchmarks.report [PART...]``: measures all rows, or those named, into docs/performance.md."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from .core import Row, Scale
from .page import machine, own_versions, part, write_part
from .table import ROWS


def main() -> None:
    """Measures, and writes. With other work on the machine the ratios mean little: its load is told."""
    load, parts = os.getloadavg()[0], sys.argv[1:]
    written = part("measured").splitlines() if parts else []
    lines = {line.split(" | ")[0]: line for line in written if line.startswith("| ")}
    for name, measure in ROWS.items():
        if not parts or any(word in name for word in parts):
            row = measure(Scale(quick=False))
            print(name, row.as_json(), flush=True)
            lines[f"| {row.name}"] = _line(row)
    write_part("measured", f"{machine(own_versions(), load)}\n\n{_table(lines.values())}")


HEADING = ("| what | goal | median | spread | |", "| --- | --- | --- | --- | --- |")


def _table(lines: Iterable[str]) -> str:
    return "\n".join((*HEADING, *(line for line in lines if line not in HEADING)))


def _line(row: Row) -> str:
    least, most = row.spread
    unit = f" {row.unit}" if row.unit not in ("x", "") else ""
    verdict = "met" if row.ok else "**missed**"
    return f"| {row.name} | {row.goal}{unit} | {row.value:.2f} | {least:.2f} to {most:.2f} | {verdict} |"


if __name__ == "__main__":
    main()

"""``python -m benchmarks``: measures, and prints one line per row."""

from __future__ import annotations

import argparse
import json
import sys

from .core import Row, Scale
from .table import ROWS


def main() -> int:
    """Measures the chosen rows; the exit code is 1 if one of them does not meet its goal."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("-o", "--output", choices=("text", "json"), default="text", help="one JSON object per row")
    options.add_argument("--quick", action="store_true", help="within a minute, and less to be trusted")
    options.add_argument("--only", metavar="NAME", help="the rows whose names hold this; --list shows them")
    options.add_argument("--list", action="store_true", help="the names of the rows")
    given = options.parse_args()
    chosen = {name: measure for name, measure in ROWS.items() if given.only is None or given.only in name}
    if given.list or not chosen:
        print("\n".join(ROWS))
        return 0 if given.list else 2
    met = True
    for measure in chosen.values():
        row = measure(Scale(given.quick))
        print(json.dumps(row.as_json(), ensure_ascii=False) if given.output == "json" else _line(row), flush=True)
        met = met and row.ok
    return 0 if met else 1


def _line(row: Row) -> str:
    least, most = row.spread
    verdict = "ok" if row.ok else "MISSED"
    return f"{row.value:>10.2f} {row.unit:<3} {row.goal!s:<14} {verdict:<7} {row.name}  ({least:.2f} to {most:.2f})"


if __name__ == "__main__":
    sys.exit(main())

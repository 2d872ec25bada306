"""``python -m benchmarks.report [PART...]``: measures all rows, or those named, into docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import redis

from .core import Row, Scale
from .servers import server
from .table import ROWS

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main() -> None:
    """Measures, and writes. With other work on the machine the ratios mean little: its load is told."""
    load = os.getloadavg()[0]
    text, parts = PAGE.read_text("utf-8"), sys.argv[1:]
    (before, rest), after = text.split(BEGIN), text.split(END)[1]
    lines = (
        {line.split(" | ")[0]: line for line in rest.split(END)[0].splitlines() if line.startswith("| ")}
        if parts
        else {}
    )
    for name, measure in ROWS.items():
        if not parts or any(part in name for part in parts):
            row = measure(Scale(quick=False))
            print(name, row.as_json(), flush=True)
            lines[f"| {row.name}"] = _line(row)
    PAGE.write_text(
        f"{before}{BEGIN}\n{_machine()} Load before the run: {load:.1f}.\n\n{_table(lines.values())}\n{END}{after}",
        "utf-8",
    )


def _machine() -> str:
    with server("no") as url, redis.Redis.from_url(url) as client:
        told = client.info("server")
    serving = f"{told.get('server_name', 'redis')} {told.get('valkey_version', told['redis_version'])}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("redis", "hiredis", "pydantic", "openai"))
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return (
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores; {platform.system()} "
        f"{platform.release()}; Python {platform.python_version()}; {serving} on loopback; {libraries}."
    )


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

"""``python -m benchmarks.report``: measures every row, and writes the table of docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
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
    rows: list[Row] = []
    for name, measure in ROWS.items():
        rows.append(measure(Scale(quick=False)))
        print(name, rows[-1].as_json(), flush=True)
    text = PAGE.read_text("utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{_machine()} Load before the run: {load:.1f}.\n\n{_table(rows)}\n{END}{after}", "utf-8")


def _machine() -> str:
    with server("no") as url, redis.Redis.from_url(url) as client:
        told = client.info("server")
    serving = f"{told.get('server_name', 'redis')} {told.get('valkey_version', told['redis_version'])}"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("redis", "pydantic", "openai"))
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return (
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores; {platform.system()} "
        f"{platform.release()}; Python {platform.python_version()}; {serving} on loopback; {libraries}."
    )


def _table(rows: list[Row]) -> str:
    lines = ["| what | goal | median | spread | |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        least, most = row.spread
        unit = f" {row.unit}" if row.unit not in ("x", "") else ""
        verdict = "met" if row.ok else "**missed**"
        lines.append(f"| {row.name} | {row.goal}{unit} | {row.value:.2f} | {least:.2f} to {most:.2f} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

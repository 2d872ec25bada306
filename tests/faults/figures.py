"""The figures of the last full search, as ``docs/reliability.md`` shows them.

python -m tests.faults --full -o json > tests/faults/figures.json && python tests/transcripts.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .engines import ENGINES

FIGURES = Path(__file__).with_name("figures.json")


def figures() -> dict[str, Any]:
    """What the last full search printed."""
    return json.loads(FIGURES.read_text("utf-8"))


def searched(_room: Path) -> str:
    """How much was played, by engine."""
    found = figures()
    lines = ["| search | what it plays | scenarios | deaths | violations |", "| --- | --- | ---: | ---: | ---: |"]
    for engine in ENGINES:
        tally = found["engines"][engine.name]
        counts = (f"{tally[name]:,}" for name in ("scenarios", "deaths", "violations"))
        lines.append(f"| {engine.name} | {engine.plays} | {' | '.join(counts)} |")
    total = (f"**{found[name]:,}**" for name in ("scenarios", "deaths", "violations"))
    lines.append(f"| **all** | each fault is shown to have happened | {' | '.join(total)} |")
    return "\n".join(lines) + "\n"


def controls(_room: Path) -> str:
    """What was broken on purpose, and what noticed it."""
    found = figures()
    lines = ["| broken on purpose | breaks | noticed by | with |", "| --- | --- | --- | --- |"]
    for engine in ENGINES:
        caught = found["engines"][engine.name]["controls"]
        lines += [f"| {v.name} | {v.rule} | {engine.name} | `{caught[v.name]}` |" for v in engine.variants]
    return "\n".join(lines) + "\n"

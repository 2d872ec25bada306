"""Three steps in plain Python: killed in one of them, the next start goes on with it.

    python examples/pipeline_steps.py RUN_ID

Twin of a River worker with ``ResumableStep``: each step's result is stored when it ends, whatever becomes of the
process, and is there for the steps after it when they are resumed.
"""

from __future__ import annotations

import sys
import time

import agentcheckpoint as ac

SOURCE = "3 1 2"
"""Stands for what lies at an address."""


def download(source: str) -> list[int]:
    print("downloading", flush=True)
    return [int(word) for word in source.split()]


def transform(numbers: list[int]) -> list[int]:
    print("transforming", flush=True)
    time.sleep(0.5)
    return sorted(numbers)


def load(numbers: list[int]) -> int:
    print(f"loading {numbers}", flush=True)
    return len(numbers)


def main(run_id: str) -> None:
    with ac.run(run_id) as run:
        raw = run.step("download", download, SOURCE)
        rows = run.step("transform", transform, raw)
        print(f"{run.step('load', load, rows)} rows")


if __name__ == "__main__":
    main(sys.argv[1])

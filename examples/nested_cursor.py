"""Two loops, one in the other, and one cursor for both: a typed value.

    python examples/nested_cursor.py RUN_ID

Twin of a River worker with a cursor of two ids.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import agentcheckpoint as ac

IDS = {1: [1, 2], 2: [1, 2], 3: [1, 2]}


@dataclass(frozen=True, order=True)
class Position:
    """The pair that was processed last."""

    id: int = 0
    sub_id: int = 0


def process(ids: dict[int, list[int]]) -> None:
    cursor = ac.Cursor(Position, start=Position())
    for id, sub_ids in ids.items():
        for sub_id in sub_ids:
            if Position(id, sub_id) <= cursor.value:
                continue
            print(f"processed {id} / {sub_id}", flush=True)
            cursor.set(Position(id, sub_id))


def main(run_id: str) -> None:
    with ac.run(run_id) as run:
        run.step("process_ids", process, IDS)


if __name__ == "__main__":
    main(sys.argv[1])

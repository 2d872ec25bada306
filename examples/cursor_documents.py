"""A loop over documents that goes on after the last one that was finished, wherever its process died.

    python examples/cursor_documents.py RUN_ID

Twin of a River worker with ``ResumableStepCursor``: nothing is compared and nothing is set by hand, and the position
is stored as the loop goes on, not only if the job ends in an error.
"""

from __future__ import annotations

import sys

import agentcheckpoint as ac

DOCUMENTS = [f"document {number}" for number in range(1, 7)]


def embed(text: str) -> int:
    """Stands for a call that is paid for."""
    return len(text)


def main(run_id: str) -> None:
    with ac.run(run_id) as run:
        for document in run.cursor("index", DOCUMENTS, key=str):
            run.step("embed", embed, document)
            print(f"indexed {document}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

"""How a driver is asked: a line on its standard input is a question, a line on its standard output the answer."""

import importlib.metadata
import json
import os
import sys

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a peer prints is no answer
CALLS = []
"""One for each step that was done."""


def result():
    """What each step returns."""
    CALLS.append(1)
    return "x" * 200


def serve(peer, *distributions, **others):
    """Answers until the input ends. First it tells the versions of what it measures.

    Args:
        peer: has ``commit(steps)``: the seconds that a step of a new run of so many took; ``fill(steps)``: records a
            run of so many, and leaves it unended; ``resume(steps)``: the seconds from taking it up to its first step
            that is new. After that it is as it was.
        distributions: the names of what it measures.
        others: the versions of what is no distribution.

    Raises:
        AssertionError: it did not do the work: a step was left out, or one done again.
    """
    versions = {name: importlib.metadata.version(name) for name in distributions} | others
    print(json.dumps(", ".join(map(" ".join, versions.items()))), file=ANSWERS, flush=True)
    for line in sys.stdin:
        question, steps = line.split()
        CALLS.clear()
        answer = getattr(peer, question)(int(steps))
        assert len(CALLS) == (0 if question == "resume" else int(steps)), f"{question}: {len(CALLS)} calls"
        print(json.dumps(answer), file=ANSWERS, flush=True)

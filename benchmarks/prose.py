"""Text as models are asked and answer it: English that nobody made up for a measurement, and no part of it twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pydoc_data.topics import topics

ALL = " ".join(" ".join(topics.values()).split())
"""What Python's help says about the language: some 430 kB."""


def pieces(size: int) -> Iterator[str]:
    """One piece of so many characters after the other; from its start again when there is no more."""
    for begun in itertools.cycle(range(0, len(ALL) - size, size)):
        yield ALL[begun : begun + size]


def long(size: int) -> str:
    """So many characters; more than there are say the same again, too far away for a packer to see."""
    return (ALL * (size // len(ALL) + 1))[:size]

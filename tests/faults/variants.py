"""Negative controls: the library broken on purpose, one rule at a time. A search that misses one is no proof."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to break the library.

    Attributes:
        name: what is broken, in a few words with dashes.
        rule: the rule of ``docs/protocol.md`` (or another promise) that it breaks.
        engine: the search that has to catch it.
        broken: while this is entered, the library is broken in this process (and in what it forks).
        aim: what one of the grid's agents has to do, and what has to happen to it, for that to show, if not anything;
            or the agents of the pauses that show it.
        says: words of the judge by which it has to be caught.
    """

    name: str
    rule: str
    engine: str
    broken: Callable[[], AbstractContextManager[None]]
    aim: tuple[str, str] | None = None
    says: str = ""

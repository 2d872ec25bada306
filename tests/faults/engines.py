"""The searches, by name: what each plays in a quick and in a full run, and how it is shown that it would notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import grid
from .broken import commits
from .tally import Tally
from .variants import Variant

Tell = Callable[[Tally], None]
Caught = Iterator[tuple[Variant, str | None]]

QUICK_AGENTS, FULL_AGENTS = range(14), range(34)
QUICK_GRID, FULL_GRID = 1_600, 22_000


@dataclass(frozen=True, slots=True)
class Engine:
    """One search for violations.

    Attributes:
        name: what it is called in reports; also the first word of its seeds.
        plays: what that is, for people.
        search: plays its scenarios, many if ``full``; tells how far it is.
        variants: ways to break the library that it has to catch.
        caught: by what each of them is caught, if it is.
        replay: plays one scenario again by its seed, if it can.
    """

    name: str
    plays: str
    search: Callable[[bool, int, Tell], Tally]
    variants: tuple[Variant, ...]
    caught: Callable[[Sequence[Variant]], Caught]
    replay: Callable[[str], Tally] | None = None


def _grid(full: bool, seed: int, tell: Tell) -> Tally:
    return grid.search(FULL_GRID if full else QUICK_GRID, seed, FULL_AGENTS if full else QUICK_AGENTS, tell)


ENGINES = (
    Engine("grid", _grid, commits.VARIANTS, lambda variants: grid.caught(variants, QUICK_AGENTS, 0), grid.replay),
)

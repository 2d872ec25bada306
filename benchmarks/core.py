"""What a row of the table is, and how two ways to do the same work are measured by turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What a value must be: ``at most``, ``at least`` or ``exactly`` so much."""

    sense: str
    limit: float

    def met(self, value: float) -> bool:
        """Whether the value is as it must be."""
        if self.sense == "exactly":
            return value == self.limit
        return value <= self.limit if self.sense == "at most" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, its median, what it must be, and its least and greatest value."""

    name: str
    value: float
    goal: Goal
    spread: tuple[float, float]
    unit: str = "x"

    @property
    def ok(self) -> bool:
        """Whether the median meets the goal."""
        return self.goal.met(self.value)

    def as_json(self) -> dict[str, Any]:
        """What ``-o json`` prints of it."""
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "goal": str(self.goal),
            "ok": self.ok,
            "spread": [round(end, 3) for end in self.spread],
        }


@dataclass(frozen=True)
class Scale:
    """How much is measured: at least five rounds, unless it is to be quick."""

    quick: bool

    @property
    def rounds(self) -> int:
        return 3 if self.quick else 5

    def size(self, full: int, quick: int) -> int:
        """How many of something."""
        return quick if self.quick else full


Measure = Callable[[], float]
"""Does the work once, and returns the seconds that it took, or that one piece of it took."""


def fastest(measure: Measure) -> Measure:
    """The least of three: what takes long is else measured together with what others do on the machine meanwhile."""
    return lambda: min(measure() for _ in range(3))


def compare(name: str, ours: Measure, bare: Measure, goal: Goal, rounds: int, *, faster: bool = False) -> Row:
    """The median of the ratios of same-round times; each round measures both, and the next begins with the other.

    Args:
        ours, bare: what is compared. Each is done once beforehand.
        faster: by how much ours is the faster one, instead of how much longer it takes.
    """
    ours(), bare()
    ratios: list[float] = []
    for n in range(rounds):
        if n % 2:
            theirs, mine = bare(), ours()
        else:
            mine, theirs = ours(), bare()
        ratios.append(theirs / mine if faster else mine / theirs)
    return row_of(name, ratios, goal)


def row_of(name: str, values: Sequence[float], goal: Goal, unit: str = "x") -> Row:
    """A row of several measurements of the same thing."""
    return Row(name, statistics.median(values), goal, (min(values), max(values)), unit)


def median_time(work: Callable[[], object], times: int) -> float:
    """The median seconds of one piece of work, done so many times."""
    taken: list[float] = []
    gc.collect()  # what the other way left is not to be cleared up at this one's expense
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def median_time_async(work: Callable[[], Awaitable[object]], times: int) -> float:
    """The same of work that is awaited."""
    taken: list[float] = []
    gc.collect()
    for _ in range(times):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def whole_time(work: Callable[[], object]) -> float:
    """The seconds that one piece of work takes."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

"""The moments at which the demo's workers are killed."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a run's working time, that the time for a restart and for replaying does not move.

    Attributes:
        done: so many steps are checkpointed.
        offset: seconds that the worker has then been working on what comes next.
    """

    done: int
    offset: float


def choose_points(checkpoints: Sequence[float], kills: int, seed: int | None) -> list[Point]:
    """Choose moments uniformly at random over a run's working time.

    Args:
        checkpoints: when each step of a run without kills was checkpointed, in seconds from its opening, ascending.
        kills: how many moments.
        seed: the same seed chooses the same share of the run's time; ``None``: another one each time.

    Returns:
        The moments, in their order.
    """
    chance = random.Random(seed)
    moments = sorted(chance.uniform(0, checkpoints[-1]) for _ in range(kills))
    begun = [0.0, *checkpoints]
    done = [bisect_right(checkpoints, moment) for moment in moments]
    return [Point(n, moment - begun[n]) for n, moment in zip(done, moments, strict=True)]

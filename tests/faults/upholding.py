"""What must be true from one life of a run to the next: of its tries, its answers, its lease, and who finds it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from .diary import Account
from .world import World

LOOK_MS = 2000
"""Milliseconds in which somebody is to look at a run whose worker may have died."""


def not_upheld(before: World | None, then: Account, after: World, now: Account) -> Iterator[str]:
    """What a life has broken: ``before`` it and ``then``, ``after`` it and ``now``."""
    for label, numbers in now.tries.items():
        recorded = before.failures(f"again[{label}]") if before is not None else 0
        came = numbers[len(then.tries[label]) :]
        if any(number <= recorded for number in came) or sorted(set(came)) != came:
            yield f"{label}: its tries were numbered {came}, and {recorded} stood in the log before"
    asked = Counter(entry["slot"] for entry in after.log if entry["k"] == "waiting")
    yield from (f"{slot} was asked {count} times" for slot, count in asked.items() if count > 1)
    waits = {entry["slot"]: entry["id"] for entry in after.log if entry["k"] == "waiting"}
    for slot, answers in now.answers.items():
        if any(answer != answers[0] for answer in answers):
            yield f"{slot}: {answers} were each said to be the answer that counts"
        if slot in waits and after.given.get(waits[slot], {}).get("what") != "answer" and slot not in after.slots:
            yield f"{slot}: its answer was acknowledged, and is not kept"


def left_behind(world: World, *, died: bool, struck: bool) -> Iterator[str]:
    """What a life has left that it should not have, or not left that it should have.

    Args:
        died: it was killed.
        struck: a fault has happened, in it or before: a run's note in the list follows on its end, and comes before its
            beginning; somebody may die, or end it, in between.
    """
    state = world.meta.get("state")
    if world.leased and not died:
        yield "its lease was not given back"
    if world.has_work and world.look_ms is None and not _is_half_submitted(world):
        yield f"it is {state}, and nobody would find it"
    if world.has_work and world.look_ms is not None:
        soon = max(int(time.time() * 1000) + LOOK_MS, int(world.meta.get("due") or 0))
        if world.look_ms > soon:
            yield f"it is {state}, and would be found {world.look_ms - soon} ms too late"
    if not world.has_work and world.look_ms is not None and not struck:
        yield f"it is {state}, and stands in the list of what is due"


def _is_half_submitted(world: World) -> bool:
    """Whoever submitted it has died before he was told so: he does it again."""
    return world.meta.get("attempt") == "0"

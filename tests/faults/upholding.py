"""What must be true from one life of a run to the next: of its tries, its answers, its lease, and who finds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .diary import Account
from .world import World

GOES_ON = frozenset({"running", "interrupted"})
REST = frozenset({"waiting", "retryable"})


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


def left_behind(world: World, *, died: bool, struck: bool, lost: bool) -> Iterator[str]:
    """What a life has left that it should not have, or not left that it should have.

    Args:
        died: it was killed.
        struck: a fault has happened in it.
        lost: a line was cut or held back, in it or before: a note in the list may have been lost with that.
    """
    state = world.meta.get("state")
    if world.leased and not died:
        yield "its lease was not given back"
    works = state in GOES_ON or (state in REST and (bool(world.meta.get("due")) or world.cancel))
    if works and not world.listed and not lost and not struck:
        yield f"it is {state}, and nobody would find it"
    if not works and world.listed and not struck:
        yield f"it is {state}, and stands in the list of what is due"

"""Three loops that the rich run has left in their middle: with a cursor of their own, in order, and in any order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import agentcheckpoint as ac

from .stored import Contents
from .walked import CURSOR, mark_of, marks_name

ITEMS = ("a", "b", "c")
LAST = "c"
"""The item that no loop has come to the end of."""


class Unfinished(Exception):
    """A loop was left."""


@dataclass(slots=True)
class Gone:
    """How far the loops have gone.

    Attributes:
        stop: the item in whose body each is left.
        worked: the items that each has worked on, by its name.
        ended: those that came to their end.
    """

    stop: str = ""
    worked: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in LOOPS})
    ended: set[str] = field(default_factory=set[str])

    def work(self, loop: str, item: str) -> None:
        if item == self.stop:
            raise Unfinished(item)
        self.worked[loop].append(item)


def _walk(run: Any, gone: Gone) -> None:
    def walk() -> int:
        cursor = ac.Cursor(int, start=0)
        for n in range(max(cursor.value, 0), len(ITEMS)):
            gone.work("walk", ITEMS[n])
            cursor.set(n + 1)
        return cursor.value

    run.step("walk", walk)


def _ordered(run: Any, gone: Gone) -> None:
    for item in run.cursor("ordered", ITEMS, key=str):
        gone.work("ordered", item)


def _unordered(run: Any, gone: Gone) -> None:
    for item in run.cursor("unordered", ITEMS, key=str, ordered=False):
        gone.work("unordered", item)


LOOPS: Mapping[str, Callable[[Any, Gone], None]] = {"walk": _walk, "ordered": _ordered, "unordered": _unordered}


def leave(run: Any) -> None:
    """Begins each, and leaves it at its last item."""
    for loop in LOOPS.values():
        with suppress(Unfinished):
            loop(run, Gone(stop=LAST))


def go_on(run: Any, gone: Gone) -> None:
    """Goes on with all of them."""
    for name, loop in LOOPS.items():
        loop(run, gone)
        gone.ended.add(name)


def left_in(kept: Contents) -> dict[str, list[str] | None]:
    """The items that are left for each to work on, as they are stored; ``None``: it is not to go on."""
    (meta,) = (value for key, value in kept.items() if key.endswith(b":meta"))
    marks = next((value for key, value in kept.items() if key.endswith(f":{marks_name('unordered')}".encode())), None)
    assert isinstance(meta, dict)
    found: dict[str, list[str] | None] = {}
    for name in LOOPS:
        stands = meta.get(f"{CURSOR}{name}".encode())
        position = {} if stands is None else json.loads(stands)
        if position.get("begun") != meta[b"begun"].decode():
            found[name] = list(ITEMS)  # there is none, or it is of an earlier life of the run
            continue
        value = json.loads(position["value"])
        done = _marked(value, marks) if name == "unordered" else _passed(value)
        found[name] = None if done is None else [item for item in ITEMS if item not in done]
    return found


def _passed(value: Any) -> tuple[str, ...] | None:
    """The items that a position has passed: a number, or the key of the last."""
    if isinstance(value, int):
        return ITEMS[: max(value, 0)]
    key = value.get("key") if isinstance(value, dict) else None
    return ITEMS[: ITEMS.index(key) + 1] if key in ITEMS else None


def _marked(value: Any, marks: object) -> set[str] | None:
    """The items that are marked. Those that were surely there are not to be missed."""
    least = value.get("least") if isinstance(value, dict) else None
    if not isinstance(marks, dict) or not isinstance(least, int) or len(marks) < least + 1:
        return None
    return {item for item in ITEMS if mark_of(item).encode() in marks}

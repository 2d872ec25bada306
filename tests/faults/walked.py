"""What must be true of work that is done item by item, and of a user's own keys, whenever a life has ended."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator

from .diary import Account
from .walks import ITEMS
from .world import World

CURSOR = "cursor:"


def astray(world: World, account: Account) -> Iterator[str]:
    """Items that were skipped, lost or repeated, what is left of loops that are done, and changes that stand alone."""
    stored = {_end(slot): items for slot, items in _stored(world).items()}
    done = set(map(_end, world.slots))
    for slot, walk in account.walks.items():
        yield from (f"{slot}: {what}" for what in _in_turn(walk))
        did = {item for what, item in walk if what == "did"}
        kept = {item for what, item in walk if what == "kept"}
        stands = stored.get(slot)
        if slot not in done:
            if kept - (stands or set()):
                yield f"{slot}: {kept} were acknowledged, and {stands} are stored"
            if (stands or set()) - did:
                yield f"{slot}: {stands} are stored as done, and {did} were worked on"
        elif did != set(range(ITEMS)):
            yield f"{slot}: it is done, and {did} were worked on"
    yield from (f"{slot}: it is done, and its cursor is left" for slot in sorted(done & stored.keys()))
    names = {marks_name(slot) for slot, cursor in _cursors(world).items() if cursor["kind"] == "unordered"}
    if world.marks.keys() - names:
        yield f"marks are left of loops that are not under way: {sorted(world.marks)}"
    yield from _own_keys(world)


def _in_turn(walk: list[tuple[str, int]]) -> Iterator[str]:
    """What is wrong with the order of what came of the items of one loop."""
    kept = set[int]()
    for what, item in walk:
        if what == "kept":
            kept.add(item)
        elif what == "did" and item in kept:
            yield f"item {item} was worked on again, and it had been acknowledged"


def _own_keys(world: World) -> Iterator[str]:
    """A transaction's own changes are there once if its checkpoint is, and not at all if it is not."""
    stood = world.labelled()
    labels = {name.partition("[")[2] for name in (*world.own, *map(_end, world.slots)) if name.startswith(_OWN)}
    for label in sorted(label.rstrip("]") for label in labels):
        number, receipts = world.own.get(f"number[{label}]", []), world.own.get(f"receipts[{label}]", [])
        there = [stood[label][1]["receipt"]] if label in stood else []
        if receipts != there or number != [str(len(there))] * len(there):
            yield f"{label}: recorded as done by {there}; its own keys were changed by {receipts}, to {number}"


_OWN = ("number[", "receipts[", "count[")


def _end(slot: str) -> str:
    return slot.rpartition("/")[2]


def _cursors(world: World) -> dict[str, dict[str, str]]:
    return {n.removeprefix(CURSOR): json.loads(text) for n, text in world.meta.items() if n.startswith(CURSOR)}


def _stored(world: World) -> dict[str, set[int]]:
    """The items that the store says are done, by slot."""
    found: dict[str, set[int]] = {}
    for slot, cursor in _cursors(world).items():
        value = json.loads(cursor["value"])
        if cursor["kind"] == "unordered":
            marks = world.marks.get(marks_name(slot), set())
            found[slot] = {item for item in range(ITEMS) if mark_of(str(item)) in marks}
        else:
            found[slot] = set(range(value["done"] if cursor["kind"] == "ordered" else value))
    return found


def marks_name(slot: str) -> str:
    """The end of the name of the key that has the marks of a loop."""
    return hashlib.sha256(slot.encode()).hexdigest()[:16]


def mark_of(key: str) -> str:
    """The field that marks an item."""
    return base64.b64encode(hashlib.sha256(key.encode()).digest()[:12]).decode()

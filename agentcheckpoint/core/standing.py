"""Which of a run's records stand, which of them were there after a step, and which step somebody means. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from agentcheckpoint.core import ids
from agentcheckpoint.core.doubt import Doubts
from agentcheckpoint.core.handles import Handles
from agentcheckpoint.core.models import (
    Done,
    Failed,
    Intent,
    Located,
    LogEntry,
    Rejected,
    Settled,
    Waiting,
    Withdrawn,
)
from agentcheckpoint.errors import RunMisuse

NEAREST = 5
"""How many steps an error names."""


def standing(entries: Iterable[LogEntry]) -> list[Done]:
    """The records that a replay finds, in the order in which they were committed."""
    found: dict[str, Done] = {}
    for entry in entries:
        if isinstance(entry, Done):
            found.pop(entry.slot, None)
            found[entry.slot] = entry
        elif isinstance(entry, Rejected) and entry.slot in found and found[entry.slot].id == entry.target:
            del found[entry.slot]
    return list(found.values())


def there_after(records: Sequence[Done], target: str) -> list[Done]:
    """Those that were committed by the time that the record ``target`` was, and what lies inside of these.

    A step that began before that and ended after it was not.
    """
    place = next((n for n, done in enumerate(records) if done.id == target), -1)
    slots = {done.slot for done in records[: place + 1]}
    return [done for n, done in enumerate(records) if n <= place or ids.is_inside(done.slot, slots)]


def rewound(entries: Sequence[LogEntry], target: str) -> list[LogEntry]:
    """What counts of a log once its run went back to the record ``target``.

    A step that was not recorded by then is as if it had never been called. But a call stays in doubt, and an answer
    that was paid for and can be fetched stays so: going back makes nothing unhappen.
    """
    kept = {done.slot for done in there_after(standing(entries), target)}
    doubts, handles = Doubts(), Handles()
    for entry in entries:
        doubts.tell(entry)
        handles.tell(entry)
    still = {entry.id for entry in (*doubts.open(), *handles.free())}
    steps = (Intent, Withdrawn, Located, Settled, Done, Failed, Rejected, Waiting)
    return [e for e in entries if not isinstance(e, steps) or e.slot in kept or e.id in still]


def find(records: Iterable[Done], name: str, run_id: str) -> Done:
    """The record that somebody means by a name: a slot, the name of one step, or the last part of one slot.

    Args:
        records: those that stand.
        name: ``plan``; or, where there are several of that name, ``plan#1``, ``plan#2``, ``fetch[key]``.
        run_id: for messages.

    Raises:
        RunMisuse: there is none, or it might be several.
    """
    recorded = list(records)
    found = [done for done in recorded if numbered(done.slot) == name or (done.slot == name != ids.names_in(name))]
    found = found or [done for done in recorded if ids.names_in(done.slot) == name]
    found = found or [done for done in recorded if _last(done.slot) == name]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(repr(numbered(done.slot)) for done in found[:NEAREST])
        more = f" and {len(found) - NEAREST} more" if len(found) > NEAREST else ""
        raise RunMisuse(
            f"run {run_id!r}: {name!r} may be any of {len(found)} recorded steps: {several}{more}. Name one "
            "of them. Nothing was changed.",
            run_id=run_id,
            step=name,
        )
    names = list(dict.fromkeys(done.slot for done in recorded))
    near = difflib.get_close_matches(name, names, NEAREST, cutoff=0.4) or names[:NEAREST]
    said = f"Recorded are: {', '.join(map(repr, near))}" if near else "Nothing is recorded"
    raise RunMisuse(
        f"run {run_id!r}: no step {name!r} is recorded in it (one that failed or is under way is not). {said}. Nothing "
        "was changed.",
        run_id=run_id,
        step=name,
    )


def numbered(slot: str) -> str:
    """The slot, where the first of a name has its number too: ``plan#1``."""
    return slot if slot.endswith("]") or ids.split_slot(slot) != (slot, 1) else f"{slot}#1"


def _last(slot: str) -> str:
    """The name of the innermost step."""
    outer = ids.enclosing(slot)
    return ids.names_in(slot[len(outer[-1]) + 1 :] if outer else slot)

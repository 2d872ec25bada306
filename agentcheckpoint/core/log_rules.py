"""Which entries of a log cannot stand beside each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from agentcheckpoint.core import ids
from agentcheckpoint.core.models import Birth, Done, Failed, Intent, LogEntry, Rejected, Rewound, Waiting, Withdrawn

_SLOTTED = (Done, Intent, Withdrawn, Failed, Rejected, Rewound, Waiting)  # a union would be built for each entry anew


def contradiction(entries: Sequence[LogEntry]) -> tuple[int | None, str] | None:
    """The index of the first entry that cannot be, if it is one alone, and what is wrong; ``None``: nothing is."""
    slots: dict[str, str] = {}
    """Where each checkpoint stands, by its id."""
    for index, entry in enumerate(entries):
        if not _has_slots(entry):
            return index, "its slot is none that a step can have"
        if isinstance(entry, Done):
            slots[entry.id] = entry.slot
        elif index and isinstance(entry, Birth):
            return index, "it is a second birth mark"
        elif isinstance(entry, Rejected) and slots.get(entry.target) != entry.slot:
            return index, "it rejects what is not recorded"
        elif isinstance(entry, Rewound) and slots.get(entry.target) != entry.slot:
            return index, "it goes back to what is not recorded"
    if len({entry.id for entry in entries}) != len(entries):
        return None, "an entry stands there twice"
    return None


def _has_slots(entry: LogEntry) -> bool:
    """Whether all slots that it names are slots that a step can have."""
    if isinstance(entry, _SLOTTED) and not ids.is_slot(entry.slot):
        return False
    bought = getattr(entry, "entries", ())
    if isinstance(entry, Done) and entry.elsewhere:
        bought = (*bought, *entry.elsewhere)
    return not bought or all(ids.is_slot(one.slot) for one in bought)

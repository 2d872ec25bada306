"""In doubt: calls that were about to be made, and of which the log does not say what came of them. Pure."""

from __future__ import annotations

from collections import defaultdict

from agentcheckpoint.core import ids
from agentcheckpoint.core.models import Done, Failed, Intent, Logged, Rejected, Withdrawn

_SETTLING = (Done, Rejected, Withdrawn)  # a union would be built for each entry anew


class Doubts:
    """The intents without an outcome, by slot. Told the log in its order, it takes one step for each entry."""

    def __init__(self) -> None:
        self._open: dict[str, Intent] = {}
        self._placed: dict[str, dict[int, Intent]] = defaultdict(dict)
        """Those of steps that must not happen twice, by name in their scope and ordinal."""

    def tell(self, entry: Logged) -> None:
        """What the log says next."""
        if isinstance(entry, _SETTLING) or (isinstance(entry, Failed) and not entry.in_doubt):
            self._open.pop(entry.slot, None)
            if self._placed:
                base, ordinal = ids.split_slot(entry.slot)
                self._placed.get(base, {}).pop(ordinal, None)
        elif isinstance(entry, Intent):
            self._open[entry.slot] = entry
            if entry.inputs is not None:
                base, ordinal = ids.split_slot(entry.slot)
                self._placed[base][ordinal] = entry

    def of(self, slot: str) -> Intent | None:
        """The call of this slot of which nobody knows what came."""
        return self._open.get(slot)

    def open(self) -> list[Intent]:
        """All of them."""
        return list(self._open.values())

    def placed(self, base: str) -> dict[int, Intent]:
        """Those calls of one name in one scope that must not happen twice, by ordinal; a keyed one is ordinal 1."""
        return self._placed.get(base, {})

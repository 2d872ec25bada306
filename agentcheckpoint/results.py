"""The results that a replay needs next, fetched in windows: a long run is never held in memory whole."""

from __future__ import annotations

from collections.abc import Sequence

from agentcheckpoint.core.models import Done
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.reading import read_results

WINDOW = 1_000_000
"""Bytes of results to fetch in one round trip."""
HELD = 4 * WINDOW
"""Bytes of fetched results to keep until they are asked for."""


class Results:
    """The result bytes of the records that were there when the run was opened.

    Args:
        records: the steps' records in the order of the log, which is the order a replay mostly asks in.
    """

    def __init__(self, fence: Fence, records: Sequence[Done]) -> None:
        self._fence = fence
        self._order = list(records)
        self._place = {done.id: i for i, done in enumerate(self._order)}
        self._ahead: dict[str, bytes] = {}
        self._bytes = 0

    def fetch(self, done: Done) -> Protocol[bytes]:
        """The result of one record; those that follow it in the log come in the same round trip."""
        ready = self._ahead.pop(done.id, None)
        if ready is not None:
            self._bytes -= len(ready)
            return ready
        found = yield from read_results(self._fence, self._fence.token, self._window(done))
        wanted = found.pop(done.id)
        self._keep(found)
        return wanted

    def _window(self, done: Done) -> list[str]:
        ids = [done.id]
        total = done.payload.size
        for later in self._order[self._place[done.id] + 1 :] if done.id in self._place else ():
            total += later.payload.size
            if total > WINDOW:
                break
            if later.id not in self._ahead:
                ids.append(later.id)
        return ids

    def _keep(self, found: dict[str, bytes]) -> None:
        if self._bytes > HELD:  # asked for in another order than recorded: do not pile up
            self._ahead.clear()
            self._bytes = 0
        self._ahead.update(found)
        self._bytes += sum(len(data) for data in found.values())

"""The results that a replay needs next, fetched in windows: a long run is never held in memory whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from agentcheckpoint.core.models import Done
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.store.effects import Await, Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.reading import read_results

WINDOW = 1_000_000
"""Bytes of results to fetch in one round trip."""
FRAME = 64
"""Bytes that a result takes beside itself, about: its id there, and the protocol's words."""
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
        self._asked: set[str] = set()
        self._ahead: dict[str, bytes] = {}
        self._bytes = 0
        self._coming: dict[str, Future[None]] = {}
        """The windows under way, by the ids in them: parallel calls do not fetch the same one."""
        self._lock = threading.Lock()

    def take(self, done: Done) -> bytes | None:
        """The result of one record, if it has come already."""
        with self._lock:
            ready = self._take(done.id)
            if ready is not None:
                self._asked.add(done.id)
            return ready

    def fetch(self, done: Done) -> Protocol[bytes]:
        """The result of one record; those that follow it in the log come in the same round trip."""
        while True:
            with self._lock:
                self._asked.add(done.id)
                if (ready := self._take(done.id)) is not None:
                    return ready
                coming = self._coming.get(done.id)
                window = [done.id] if coming is not None else self._window(done)
                arrived = self._expect(window) if coming is None else None
            if coming is not None:
                try:
                    yield Await(coming, idle=True)
                    continue
                except RunMisuse:  # a blocking step on the very loop that brings it: it gets its own copy
                    arrived = None
            try:
                found = yield from read_results(self._fence, self._fence.token, window)
                with self._lock:
                    wanted = found.pop(done.id)
                    self._keep(found)
                return wanted
            finally:
                if arrived is not None:
                    self._arrive(window, arrived)

    def _take(self, entry_id: str) -> bytes | None:
        ready = self._ahead.pop(entry_id, None)
        if ready is not None:
            self._bytes -= len(ready)
        return ready

    def _window(self, done: Done) -> list[str]:
        ids = [done.id]
        total = done.payload.size + FRAME
        for place in range(self._place[done.id] + 1, len(self._order)) if done.id in self._place else ():
            later = self._order[place]
            total += later.payload.size + FRAME
            if total > WINDOW:
                break
            if later.id not in self._ahead and later.id not in self._asked and later.id not in self._coming:
                ids.append(later.id)
        return ids

    def _expect(self, window: list[str]) -> Future[None]:
        arrived: Future[None] = Future()
        self._coming.update(dict.fromkeys(window, arrived))
        return arrived

    def _arrive(self, window: list[str], arrived: Future[None]) -> None:
        with self._lock:
            for entry_id in window:
                del self._coming[entry_id]
        arrived.set_result(None)

    def _keep(self, found: dict[str, bytes]) -> None:
        if self._bytes > HELD:  # asked for in another order than recorded: do not pile up
            self._ahead.clear()
            self._bytes = 0
        self._ahead.update(found)
        self._bytes += sum(len(data) for data in found.values())

"""The answers that were asked for and are not recorded, though their ids are: which call each would answer. Pure."""

from __future__ import annotations

import threading

from agentcheckpoint.core import ids
from agentcheckpoint.core.models import Done, Located, LogEntry, Rejected

_USING = (Done, Rejected)  # a union would be built for each entry anew


class Handles:
    """What can be fetched by its id instead of being bought again.

    A handle is free until a call takes it, and free again if that call is not answered. While somebody is at an
    attempt's answer, its money is settled by him alone. All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._free: dict[str, Located] = {}
        """By the id of their ledger entry, the oldest first."""
        self._held: set[str] = set()
        """The ledger entries whose answers somebody is at."""
        self._lock = threading.Lock()

    def tell(self, entry: LogEntry) -> None:
        """What the log says next: a handle, or that one is of no more use, as its answer is recorded or no good."""
        if isinstance(entry, Located):
            self._free[entry.entries[-1].id] = entry
            return
        for attempt in getattr(entry, "entries", ()):
            used = isinstance(entry, _USING)
            if used or attempt.bill in ("wasted", "not_billed"):
                self._free.pop(attempt.id, None)

    def take(self, slot: str, digest: str) -> Located | None:
        """The newest free handle of an equal call: same name in the same scope, same inputs. Its number among its
        siblings does not count, since parallel calls may come in another order.
        """
        base, _ = ids.split_slot(slot)
        with self._lock:
            for attempt, handle in reversed(self._free.items()):
                if handle.digest == digest and ids.split_slot(handle.slot)[0] == base and attempt not in self._held:
                    self._held.add(attempt)
                    del self._free[attempt]
                    return handle
        return None

    def give_back(self, handle: Located) -> None:
        """The call that took it, or for which it was stored, was not answered."""
        with self._lock:
            self._held.discard(handle.entries[-1].id)
            self._free[handle.entries[-1].id] = handle

    def hold(self, attempt: str) -> bool:
        """Whether nobody else is at this attempt's answer: from now on the caller is, until ``release``."""
        with self._lock:
            if attempt in self._held:
                return False
            self._held.add(attempt)
            return True

    def release(self, attempt: str) -> None:
        """Nobody is at this attempt's answer any more."""
        with self._lock:
            self._held.discard(attempt)

    def free(self) -> list[Located]:
        """Those that no call has taken, the oldest first."""
        with self._lock:
            return list(self._free.values())

    def has(self, attempt: str) -> bool:
        """Whether this attempt's answer is free to be fetched."""
        return attempt in self._free

    def drop(self, attempt: str) -> None:
        """The answer is no good, or is no longer there."""
        with self._lock:
            self._held.discard(attempt)
            self._free.pop(attempt, None)

"""One thread in this process that keeps the leases of its open runs alive, whatever their event loops do."""

from __future__ import annotations

import os
import threading
import time
import weakref

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.store.upkeep import renew

_due: weakref.WeakKeyDictionary[Attempt, float] = weakref.WeakKeyDictionary()
"""When each open attempt's lease is to be renewed next, on the monotonic clock."""
_wake = threading.Condition()
_thread: threading.Thread | None = None


def _forget() -> None:
    """In a forked child: the thread is not here, and the condition may be held by it."""
    global _wake, _thread
    _wake, _thread = threading.Condition(), None
    _due.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def keep_alive(attempt: Attempt) -> None:
    """Renews the attempt's lease every third of its length, until the attempt is closed."""
    global _thread
    with _wake:
        _due[attempt] = _next(attempt)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_renew_all, name="agentcheckpoint-leases", daemon=True)
            _thread.start()
        _wake.notify()


def _next(attempt: Attempt) -> float:
    return time.monotonic() + attempt.fence.ttl_ms / 3000


def _renew_all() -> None:
    while True:
        _renew_due()
        with _wake:  # no attempt is held here: one that is dropped meanwhile is freed
            soonest = min(_due.values(), default=None)
            if soonest is None or soonest > time.monotonic():
                _wake.wait(None if soonest is None else soonest - time.monotonic())


def _renew_due() -> None:
    with _wake:
        now = time.monotonic()
        for attempt in list(_due):
            if not attempt.open:
                del _due[attempt]
        due = [attempt for attempt, at in _due.items() if at <= now]
        _due.update((attempt, _next(attempt)) for attempt in due)
    for attempt in due:
        _renew(attempt)


def _renew(attempt: Attempt) -> None:
    with attempt.lease_lock:
        if not attempt.open or attempt.store is None or attempt.fence.pid != os.getpid():
            return
        try:
            attempt.store.run(renew(attempt.fence))
        except Exception:  # no correctness rests on a lease: the next renewal, or the next commit, tells
            return

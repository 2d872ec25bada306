"""One thread in this process that keeps the leases of its open runs alive, whatever their event loops do."""

from __future__ import annotations

import os
import threading
import time
import weakref

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.store.upkeep import renew

_attempts: weakref.WeakSet[Attempt] = weakref.WeakSet()
_wake = threading.Condition()
_thread: threading.Thread | None = None


def _forget() -> None:
    """In a forked child: the thread is not here, and the condition may be held by it."""
    global _wake, _thread
    _wake, _thread = threading.Condition(), None
    _attempts.clear()


os.register_at_fork(after_in_child=_forget)


def keep_alive(attempt: Attempt) -> None:
    """Renews the attempt's lease every third of its length, until the attempt is closed."""
    global _thread
    with _wake:
        _attempts.add(attempt)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_renew_all, name="agentcheckpoint-leases", daemon=True)
            _thread.start()
        _wake.notify()


def _renew_all() -> None:
    last = time.monotonic()
    while True:
        with _wake:
            attempts = [attempt for attempt in _attempts if attempt.open]
            if not attempts:
                _attempts.clear()
                _wake.wait()
                last = time.monotonic()
                continue
            left = last + min(attempt.fence.ttl_ms for attempt in attempts) / 3000 - time.monotonic()
            if left > 0:
                _wake.wait(left)  # a run that is opened meanwhile may have a shorter lease
                continue
        last = time.monotonic()
        for attempt in attempts:
            _renew(attempt)


def _renew(attempt: Attempt) -> None:
    with attempt.lease_lock:
        if not attempt.open or attempt.store is None or attempt.fence.pid != os.getpid():
            return
        try:
            attempt.store.run(renew(attempt.fence))
        except Exception:  # no correctness rests on a lease: the next renewal, or the next commit, tells
            return

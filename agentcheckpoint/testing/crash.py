"""Crash points: a worker that dies by SIGKILL at a place that a test names."""

from __future__ import annotations

import os
import signal
import threading

from agentcheckpoint import attempt
from agentcheckpoint.store.commit import Change


def kill_after_commits(n: int) -> None:
    """Kill this process by SIGKILL right after the n-th commit that it applies from now on, in whatever run.

    Args:
        n: 1 is the next commit.

    Raises:
        ValueError: ``n`` is less than 1.
    """
    if n < 1:
        raise ValueError(f"the first commit is number 1; there is none with number {n}")
    left, lock = n, threading.Lock()

    def count(_attempt: attempt.Attempt, _change: Change) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    attempt.after_commit.append(count)

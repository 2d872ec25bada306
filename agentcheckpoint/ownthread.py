"""A call in a thread of its own, which can be left behind: Python cannot stop a function."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_own_thread(function: Callable[[], T]) -> Future[T]:
    """Calls a function that does not raise in a new thread, with the caller's context variables as they are now.

    The thread does not keep the process alive. The future gives what the function returns; it cannot be cancelled.
    """
    course: Future[T] = Future()
    course.set_running_or_notify_cancel()
    inherited = contextvars.copy_context()
    thread = threading.Thread(
        target=lambda: course.set_result(inherited.run(function)), name="agentcheckpoint-step", daemon=True
    )
    thread.start()
    return course

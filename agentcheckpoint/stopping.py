"""Asking attempts of this process to end at their next commit: a signal, or a host that shuts down."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from agentcheckpoint import current

_ENDING = (signal.SIGTERM, signal.SIGINT)
_lock = threading.Lock()
_watching = False


def interrupt(reason: str = "the process is to stop") -> int:
    """Ends every attempt that is open in this process at its next commit.

    Each unwinds by ``Interrupted`` where its code calls the next step, or right after the commit under way: what is
    paid is recorded first. It counts as no failure, and the lease is given back at once, so that another worker can
    go on. A run that is opened later is not concerned.

    Args:
        reason: for the message.

    Returns:
        How many attempts were open.
    """
    attempts = current.open_attempts()
    for attempt in attempts:
        attempt.stop = attempt.stop or reason
    return len(attempts)


def watch_sigterm() -> None:
    """While runs are open, SIGTERM interrupts them, unless the program has its own way with it. A second one kills."""
    global _watching
    if _watching or threading.current_thread() is not threading.main_thread():
        return
    with _lock:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)
            _watching = True


def unwatch_sigterm() -> None:
    """The last run of this process is closed: SIGTERM does again what it did before."""
    global _watching
    if not _watching or threading.current_thread() is not threading.main_thread() or current.open_attempts():
        return
    with _lock:
        if signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _watching = False


@contextmanager
def signals_to(stop: Callable[[str], object]) -> Iterator[None]:
    """Inside, SIGTERM and SIGINT call ``stop`` with their name; a second one kills. In the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        for each in _ENDING:
            signal.signal(each, signal.SIG_DFL)
        stop(signal.Signals(number).name)

    before = {number: signal.signal(number, on_signal) for number in _ENDING}
    try:
        yield
    finally:
        for number, function in before.items():
            signal.signal(number, function)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not interrupt("SIGTERM"):
        signal.raise_signal(signal.SIGTERM)

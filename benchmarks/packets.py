"""The packets that leave this process: what a step costs in round trips, and the bytes of a commit."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from agentcheckpoint.store.resp import pack
from agentcheckpoint.store.wire import Wire

RENEWING = "agentcheckpoint-leases"
"""The thread whose packets come by the clock, and belong to no step."""


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[Any, ...]]]:
    """The commands of each packet that leaves meanwhile, blocking."""
    exchange, seen = Wire.exchange, list[tuple[Any, ...]]()

    def noted(self: Wire, commands: tuple[Any, ...]) -> Any:
        if threading.current_thread().name != RENEWING:
            seen.append(commands)
        return exchange(self, commands)

    Wire.exchange = noted  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Wire.exchange = exchange  # type: ignore[method-assign]


def of_one_commit(run: Any, result: Any) -> tuple[bytes, list[tuple[Any, ...]]]:
    """The packet of one plain commit, to keys of equal length that are no run's: its bytes, and the
    commands inside of it.
    """
    with watched() as seen:
        run.step("sample", result)
    commands = [tuple(_elsewhere(word) for word in command) for command in seen[0]]
    return pack(commands), commands[1:-1]


def _elsewhere(word: Any) -> Any:
    return f"xx:{word[3:]}" if isinstance(word, str) and word.startswith("ac:") else word

"""A caller of an event loop whose cancellation waits until what is under way has come to something."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agentcheckpoint.store.effects import T


@dataclass(slots=True)
class Caller:
    """Who runs a generator, and whether he was cancelled meanwhile."""

    cancelled: asyncio.CancelledError | None = None
    before: int = field(default_factory=lambda: _cancellations())
    """How often he had been cancelled when it began."""

    async def hear(self) -> None:
        """Notes a cancellation that came while nothing was waited for; it is not to be raised later than here."""
        if self.cancelled is None and _cancellations() > self.before:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as exc:
                self.cancelled = exc

    async def settled(self, under_way: asyncio.Future[T]) -> T:
        """What came of it. His cancellation is noted, and waits until something came of it."""
        while not under_way.done():
            try:
                await asyncio.wait({under_way})
            except asyncio.CancelledError as exc:
                self.cancelled = exc
        return under_way.result()


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()

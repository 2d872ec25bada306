"""A caller of an event loop whose cancellation waits until what is under way has come to something."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agentcheckpoint.store.effects import T


@dataclass(slots=True)
class Course:
    """What a generator's caller was told meanwhile."""

    cancelled: asyncio.CancelledError | None = None
    before: int = field(default_factory=lambda: _cancellations())
    """How often the caller had been cancelled when it began."""

    async def hear(self) -> None:
        """Notes a cancellation that came while nothing was waited for; it is not to be raised later than here."""
        if self.cancelled is None and _cancellations() > self.before:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as exc:
                self.cancelled = exc

    async def settled(self, under_way: asyncio.Future[T]) -> T:
        """What came of it. A cancellation of the caller is noted, and waits until something came of it."""
        while not under_way.done():
            try:
                await asyncio.wait({under_way})
            except asyncio.CancelledError as exc:
                self.cancelled = exc
        return under_way.result()


def _cancellations() -> int:
    caller = asyncio.current_task()
    return 0 if caller is None else caller.cancelling()

"""One caller's part of what leaves in one write on a loop's connection, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.caller import Caller
from agentcheckpoint.store.effects import Command, Lost, NotSent, Reply
from agentcheckpoint.store.resp import pack


class Parcel:
    """Commands, and the replies to them once they have come.

    Args:
        commands: what is asked.
        patience: multiplies the time-out.
    """

    __slots__ = ("count", "outcome", "packet", "patience", "woken")

    def __init__(self, commands: tuple[Command, ...], patience: int = 1) -> None:
        self.packet = pack(commands)
        self.count = len(commands)
        self.patience = patience
        self.outcome: list[Reply] | Exception | None = None
        """What came of it; ``None``: nothing yet."""
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Wakes the caller; one who is cancelled waits for another."""

    def settle(self, outcome: list[Reply] | Exception) -> None:
        """Its replies have come, or will not."""
        if self.outcome is None:
            self.outcome = outcome
        if not self.woken.done():
            self.woken.set_result(None)

    async def answered(self, caller: Caller | None = None) -> list[Reply]:
        """The replies. With a ``caller``, a cancellation is noted there, and waits for them.

        Raises:
            NotSent, Lost, StoreRefused.
        """
        while self.outcome is None:
            try:
                await self.woken
            except asyncio.CancelledError as exc:
                if caller is None:
                    raise
                caller.cancelled = exc
                self.woken = asyncio.get_running_loop().create_future()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def fail(parcels: Iterable[Parcel], exc: BaseException) -> None:
    """Each caller is told by an exception of its own: it is thrown into his generator, which may add to it."""
    for parcel in parcels:
        trouble: Exception
        if isinstance(exc, NotSent | Lost):
            trouble = type(exc)(str(exc), timed_out=exc.timed_out)
        elif isinstance(exc, StoreRefused):
            trouble = StoreRefused(str(exc))
        else:
            trouble = Lost(f"{type(exc).__name__}: {exc}")
        trouble.__cause__ = exc
        parcel.settle(trouble)

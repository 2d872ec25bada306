"""How long a server that does not answer is waited for: the tries are bounded, and so is the sum of their time-outs."""

from __future__ import annotations

from collections.abc import Iterator

from agentcheckpoint.store.effects import Lost, NotSent

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between tries: there are as many tries."""
TIMEOUTS = 6
"""How many time-outs are waited for in all: 30 s of them, at 5 s each."""


class Patience:
    """What is left of the waiting for one request, and for what has to be settled because of it.

    A protocol generator holds no clock: it counts the time-outs that its driver says have run out. A server that
    refuses connections at once takes none of it.
    """

    def __init__(self) -> None:
        self._left = TIMEOUTS
        self._stake = 1

    def tries(self) -> Iterator[tuple[int, float]]:
        """For each try by how much to multiply its time-out, which grows, and the seconds to pause after it."""
        for n, pause in enumerate(PAUSES, start=1):
            if self._left <= 0:
                return
            self._stake = min(n, max(1, self._left - 1))  # what is in doubt after the last but one is still settled
            yield self._stake, pause

    def note(self, trouble: Exception) -> None:
        """A try failed."""
        if isinstance(trouble, NotSent | Lost) and trouble.timed_out:
            self._left -= self._stake

    def answered(self) -> None:
        """The server has answered meanwhile: one more try may be made, and settled."""
        self._left = max(self._left, 2)

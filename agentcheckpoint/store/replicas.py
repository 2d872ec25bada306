"""``durability="replicated"``: after each write, in the same packet, its replicas are waited for. Rules, and no I/O.

A write that too few replicas have acknowledged is applied on the primary all the same: it counts, and is never made or
paid again. So a shortfall is said, and is no error.
"""

from __future__ import annotations

from dataclasses import replace

from agentcheckpoint.errors import DurabilityWarning
from agentcheckpoint.store.effects import Effect, Packet, Protocol, Refusal, Reply, T, performed_by

WRITES = frozenset({"RPUSH", "HSET", "HSETNX"})
"""Commands that record something. Leases and lists are none of them: no harm is done if a failover forgets those."""
WAIT_MS = 1000
"""How long one write waits for its replicas: far less than a reply may take."""
LAGGING_MS = 100
"""The same while they are known to lag: no agent is to be slowed to a crawl by a replica that is gone."""


class Replicas:
    """How many replicas have to have a write, and whether they had those that were made.

    Args:
        count: so many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.short = 0
        """Writes that fewer have acknowledged, since this process began."""
        self._lagging = False
        self._unsaid: str | None = None

    def acknowledged(self, protocol: Protocol[T]) -> Protocol[T]:
        """The same protocol; each of its packets that records something waits for the replicas."""
        return performed_by(protocol, self._performed)

    def _performed(self, effect: Effect) -> Protocol[object]:
        if not isinstance(effect, Packet) or all(command[0] not in WRITES for command in effect.commands):
            return (yield effect)
        wait = ("WAIT", self.count, LAGGING_MS if self._lagging else WAIT_MS)
        *replies, acknowledged = yield replace(effect, commands=(*effect.commands, wait))
        if not any(isinstance(reply, Refusal) for reply in replies):
            self._note(acknowledged)
        return replies

    def _note(self, acknowledged: Reply) -> None:
        if isinstance(acknowledged, int) and acknowledged >= self.count:
            self._lagging = False
            return
        self.short += 1
        if not self._lagging:
            self._lagging = True
            self._unsaid = str(acknowledged)

    def shortfall(self) -> DurabilityWarning | None:
        """What is to be said about replicas that do not follow: once, until they do again."""
        had, self._unsaid = self._unsaid, None
        if had is None:
            return None
        return DurabilityWarning(
            f"replicas that have acknowledged a write within {WAIT_MS / 1000:g} s: {had}, and {self.count} were asked "
            "for. It is applied on the primary, and counts; a failover now could lose it, and it would be paid again. "
            "Set min-replicas-to-write on the server if it is to refuse instead."
        )

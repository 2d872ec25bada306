"""Whether somebody who may be alive holds a run's lease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from agentcheckpoint.store.effects import Lost, NotSent, Packet, Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder, provably_dead
from agentcheckpoint.store.loading import corrupt

_NEVER = -1
"""What ``PTTL`` says of a key that does not expire."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody who is not provably dead holds the lease."""

    holder: Holder | None
    ttl: float


def busy(run_id: str, key: str, lease: bytes, ttl_ms: int, released: Callable[[Holder], bool]) -> Busy | None:
    """Who holds this lease, unless he has released it or is provably dead.

    One that cannot be read may be a later version's, and runs out.

    Raises:
        CheckpointCorrupt: it never would.
    """
    if ttl_ms == _NEVER:
        raise corrupt(run_id, key, "it never expires")
    ttl = max(ttl_ms, 0) / 1000
    try:
        holder = Holder.model_validate_json(lease)
    except ValidationError:
        return Busy(None, ttl)
    return None if released(holder) or provably_dead(holder) else Busy(holder, ttl)


def give_back(fence: Fence, token: str) -> Protocol[None]:
    """Ends the lease of this token: who cannot go on, or has ended, keeps nobody waiting."""
    try:
        yield Packet((("DEL", fence.keys.lease(token)),))
    except (NotSent, Lost):
        return  # it runs out

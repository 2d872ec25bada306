"""Asking for a run's end, and taking that back: a key beside the run, which its worker hears at each commit."""

from __future__ import annotations

from functools import partial
from typing import cast

from agentcheckpoint.core.lifecycle import ENDED
from agentcheckpoint.core.models import RunState
from agentcheckpoint.store.effects import Command, Protocol, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.loading import META, lost_head, parse_head, parse_meta
from agentcheckpoint.store.making import deleted_error, no_such_run
from agentcheckpoint.store.persisting import exchange, persist


def ask_end(fence: Fence, reason: str) -> Protocol[RunState]:
    """Notes that somebody wants the run's end, unless it has ended. Asked twice, the first reason stays.

    Returns:
        The state that the run was in. It may have ended at this very moment.

    Raises:
        RunNotFound, RunDeleted, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """

    def once(times: int) -> Protocol[RunState | None]:
        return _ask(fence, reason, times)

    asking: Protocol[RunState] = persist(fence.run_id, once, "its end could not be asked for")
    return (yield from asking)


def _ask(fence: Fence, reason: str, times: int) -> Protocol[RunState | None]:
    """The run's state; ``None``: it changed hands meanwhile."""
    keys = fence.keys
    look: tuple[Command, ...] = (("LLEN", keys.tokens), ("WATCH", keys.head), ("GET", keys.head), ("EXISTS", keys.tomb))
    had_tokens, _, reply, deleted = yield from exchange(fence.run_id, look, times)
    head = parse_head(fence.run_id, keys.head, reply)
    if head is None:
        if deleted:
            raise deleted_error(fence)
        raise lost_head(fence.run_id, keys.head) if had_tokens else no_such_run(fence)
    meta = keys.meta(head)
    values, still = yield from exchange(fence.run_id, (("HMGET", meta, *META), ("GET", keys.head)), times)
    if still != reply:
        return None
    state = cast("RunState", parse_meta(fence.run_id, meta, values)["state"])
    if state in ENDED:
        return state
    commands: tuple[Command, ...] = (("MULTI",), ("SET", keys.cancel, reason, "NX"), ("EXEC",))
    return state if executed((yield from exchange(fence.run_id, commands, times))) is not None else None


def take_back(fence: Fence) -> Protocol[bool]:
    """The run's end is wanted no more: said by who has claimed it, as long as it is his.

    Returns:
        Whether it is so now; ``False``: the run is another's.

    Raises:
        CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """
    return (yield from persist(fence.run_id, partial(_take_back, fence), "the asking for its end could not be undone"))


def _take_back(fence: Fence, times: int) -> Protocol[bool | None]:
    keys, run_id = fence.keys, fence.run_id
    _, head = yield from exchange(run_id, (("WATCH", keys.head), ("GET", keys.head)), times)
    if parse_head(run_id, keys.head, head) != fence.token:
        return False
    replies = yield from exchange(run_id, (("MULTI",), ("DEL", keys.cancel), ("EXEC",)), times)
    return True if executed(replies) is not None else None

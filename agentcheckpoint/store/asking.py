"""Asking for a run's end, and taking that back: a key beside the run, which its worker hears at each commit."""

from __future__ import annotations

from typing import cast

from agentcheckpoint.core.models import RunState
from agentcheckpoint.errors import StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.loading import META, lost_head, parse_head, parse_meta
from agentcheckpoint.store.making import deleted_error, no_such_run
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.refusals import NotNow, raise_refusal


def ask_end(fence: Fence, reason: str) -> Protocol[RunState]:
    """Notes that somebody wants the run's end, unless it has ended. Asked twice, the first reason stays.

    Returns:
        The state that the run was in. It may have ended at this very moment.

    Raises:
        RunNotFound, RunDeleted, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    trouble: Exception = NotNow("it kept changing hands")
    patience = Patience()
    for times, pause in patience.tries():
        try:
            state = yield from _ask(fence, reason, times)
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
            yield Pause(pause)
            continue
        if state is not None:
            return state
    raise StoreUnavailable(
        f"run {fence.run_id!r}: its end could not be asked for in several tries: {trouble}.", run_id=fence.run_id
    )


def _ask(fence: Fence, reason: str, times: int) -> Protocol[RunState | None]:
    """The run's state; ``None``: it changed hands meanwhile."""
    keys = fence.keys
    look: tuple[Command, ...] = (("LLEN", keys.tokens), ("WATCH", keys.head), ("GET", keys.head), ("EXISTS", keys.tomb))
    had_tokens, _, reply, deleted = yield from _held(fence, look, times)
    head = parse_head(fence.run_id, keys.head, reply)
    if head is None:
        if deleted:
            raise deleted_error(fence)
        raise lost_head(fence.run_id, keys.head) if had_tokens else no_such_run(fence)
    meta = keys.meta(head)
    values, still = yield from _held(fence, (("HMGET", meta, *META), ("GET", keys.head)), times)
    if still != reply:
        return None
    state = cast("RunState", parse_meta(fence.run_id, meta, values)["state"])
    if state in ("completed", "failed", "cancelled"):
        return state
    commands: tuple[Command, ...] = (("MULTI",), ("SET", keys.cancel, reason, "NX"), ("EXEC",))
    return state if executed((yield from _held(fence, commands, times))) is not None else None


def take_back(fence: Fence) -> Protocol[bool]:
    """The run's end is wanted no more: said by who has claimed it, as long as it is his.

    Returns:
        Whether it is so now; ``False``: the run is another's.

    Raises:
        CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """
    keys = fence.keys
    trouble: Exception | None = None
    patience = Patience()
    for times, pause in patience.tries():
        try:
            _, head = yield from _held(fence, (("WATCH", keys.head), ("GET", keys.head)), times)
            if parse_head(fence.run_id, keys.head, head) != fence.token:
                return False
            if executed((yield from _held(fence, (("MULTI",), ("DEL", keys.cancel), ("EXEC",)), times))) is not None:
                return True
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
            yield Pause(pause)
    raise StoreUnavailable(
        f"run {fence.run_id!r}: that its end was asked for could not be taken back in several tries: {trouble}.",
        run_id=fence.run_id,
    )


def _held(fence: Fence, commands: tuple[Command, ...], times: int) -> Protocol[list[Reply]]:
    replies: list[Reply] = yield Packet(commands, held=True, patience=times)
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(fence.run_id, commands, replies)
    return replies

"""The reads of a user's transaction: under WATCH of the run's head, and of every key that is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redis.crc import key_slot

from agentcheckpoint.errors import RunMisuse, StoreUnavailable
from agentcheckpoint.store.claim import Foreign, Gone, settle
from agentcheckpoint.store.effects import Await, Command, Line, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.loading import parse_head
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.reading import was_deleted
from agentcheckpoint.store.refusals import PASSING, refusal_error
from agentcheckpoint.store.verdicts import gone_error


def watch_head(fence: Fence, line: Line, new_token: Callable[[int], str], step: str) -> Protocol[bool]:
    """Begins a transaction on an empty line: from now on it is refused whole if the run changes hands.

    Returns whether the server is of a cluster.

    Raises:
        LeaseLost, RunDeleted, CheckpointsLost: the run is this worker's no more.
        StoreRefused, StoreUnavailable.
    """
    patience, trouble = Patience(), ""
    head = fence.keys.head
    for times, pause in patience.tries():
        while (settling := fence.settlement()) is not None:
            yield Await(settling)
        fence.check()
        try:
            commands = (("WATCH", head), ("GET", head), ("INFO", "cluster"))
            watched, current, info = yield Packet(commands, patience=times, line=line)
        except (NotSent, Lost) as exc:
            patience.note(exc)
            trouble = str(exc)
        else:
            refused = next((reply for reply in (watched, current) if isinstance(reply, Refusal)), None)
            if refused is not None and refused.code not in PASSING:
                raise refusal_error(fence.run_id, refused, step=step)
            if refused is None and (yield from _is_current(fence, current, new_token, step)):
                return isinstance(info, bytes) and b"cluster_enabled:1" in info
            trouble = str(refused or "it kept changing hands")
        line.wires.clear()
        yield Pause(pause)
    raise StoreUnavailable(
        f"run {fence.run_id!r}, step {step!r}: the transaction could not be begun: {trouble}. Nothing was applied.",
        run_id=fence.run_id,
        step=step,
    )


def _is_current(fence: Fence, reply: Reply, new_token: Callable[[int], str], step: str) -> Protocol[bool]:
    """Whether the head is this worker's token. If it is another of its own, it claims again."""
    head = parse_head(fence.run_id, fence.keys.head, reply)
    if head == fence.token:
        return True
    if head is None:
        raise gone_error(fence, step, deleted=(yield from was_deleted(fence, Patience())))
    if head not in fence.issued:
        fence.heir = head
        raise fence.lost_to(head, step=step)
    settling = fence.begin_settlement(fence.token)
    if settling is None:
        return False
    error: Exception | None = None
    try:
        outcome = yield from settle(fence, new_token)
        assert not isinstance(outcome, Foreign | Gone)
    except Exception as exc:
        error = exc
        raise
    finally:
        fence.end_settlement(settling, error)
    return False


def read_watched(fence: Fence, line: Line, keys: Sequence[str], command: Command, step: str) -> Protocol[Reply]:
    """Watches the keys, and reads.

    Raises:
        StoreRefused: the server refused; the transaction goes on.
        StoreUnavailable: the connection is gone, and what it watched with it.
    """
    try:
        watched, reply = yield Packet((("WATCH", *keys), command), line=line)
    except (NotSent, Lost) as exc:
        raise StoreUnavailable(
            f"run {fence.run_id!r}, step {step!r}: the transaction's connection is gone: {exc}. Nothing was applied.",
            run_id=fence.run_id,
            step=step,
        ) from exc
    for answer in (watched, reply):
        if isinstance(answer, Refusal):
            raise refusal_error(fence.run_id, answer, step=step)
    return reply


def check_slot(fence: Fence, key: str, step: str) -> None:
    """Raises ``RunMisuse`` if a key lies in another slot of the cluster than the run: one EXEC cannot change both."""
    if key_slot(key.encode()) == key_slot(fence.keys.head.encode()):
        return
    raise RunMisuse(
        f"run {fence.run_id!r}, step {step!r}: the server is a cluster, and the key {key!r} lies in another slot than "
        "the run, so one transaction cannot change both. Nothing was queued. Name it by tx.key('...').",
        run_id=fence.run_id,
        step=step,
    )

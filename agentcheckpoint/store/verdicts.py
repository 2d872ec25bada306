"""What the replies to a commit mean, and the errors for those that are no good end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from agentcheckpoint.errors import (
    AgentCheckpointError,
    CheckpointCorrupt,
    CheckpointsLost,
    CommitUnknown,
    RunDeleted,
    StoreUnavailable,
)
from agentcheckpoint.store.effects import Refusal, Reply, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.loading import parse_head
from agentcheckpoint.store.refusals import nothing_applied

Verdict: TypeAlias = Literal["committed", "moved", "went back", "foreign", "gone", "torn", "refused", "unknown"]


def judge(fence: Fence, token: str, replies: Sequence[Reply]) -> Verdict:
    """What the replies to a commit packet of ``token`` mean: rule 1.

    Raises:
        CheckpointCorrupt: the head is no token.
    """
    outcome = executed(replies)
    if outcome is None:
        return "refused" if nothing_applied(replies) else "unknown"
    head = outcome[-1]
    if isinstance(head, Refusal):
        return "torn"
    current = token if head == token.encode() else parse_head(fence.run_id, fence.keys.head, head)
    if current is None:
        return "gone"
    if current == token:
        return "torn" if any(isinstance(reply, Refusal) for reply in outcome) else "committed"
    if current in fence.issued:
        return "moved" if fence.issued.index(current) > fence.issued.index(token) else "went back"
    return "foreign"


def torn_error(fence: Fence, step: str | None, outcome: Sequence[Reply]) -> CheckpointCorrupt:
    """The error for a commit of which a part was refused: EXEC never rolls back."""
    errors = "; ".join(str(reply) for reply in outcome if isinstance(reply, Refusal))
    return CheckpointCorrupt(
        f"{_where(fence, step)}: a commit was applied in part: {errors}. A key of the run is not of the type that "
        f"agentcheckpoint writes, so it does not count. Look at the run's keys ({fence.keys.head}): another program "
        "has written there."
    )


def gone_error(fence: Fence, step: str | None, *, deleted: bool) -> AgentCheckpointError:
    """The error for a run that has no head any more."""
    if deleted:
        return RunDeleted(
            f"{_where(fence, step)}: the run was deleted while this worker was at it. Nothing was written. Stop here."
        )
    return CheckpointsLost(
        f"{_where(fence, step)}: the run has vanished from the store, and was not deleted by agentcheckpoint: it "
        "was emptied, evicts keys, or was restarted without durable persistence. This commit does not count. Restore "
        "the data before the run is opened again: it would start anew, and pay again."
    )


def unsettled_error(
    fence: Fence, step: str | None, trouble: BaseException | None, *, doubt: bool
) -> CommitUnknown | StoreUnavailable:
    """The error for a settlement that came to no end. Without ``doubt``, nothing was applied for sure."""
    if not doubt:
        return unavailable_error(fence, step, trouble)
    return CommitUnknown(
        f"{_where(fence, step)}: the server went away before it said whether the commit was applied, and it could not "
        f"be settled: {str(trouble).rstrip('.')}. Opening the run again settles whether it is stored."
    )


def unavailable_error(fence: Fence, step: str | None, trouble: BaseException | None) -> StoreUnavailable:
    """The error for a commit that was never applied, however often it was tried."""
    return StoreUnavailable(
        f"{_where(fence, step)}: the store could not take the commit: {trouble}. It was not applied. "
        "Open the run again when the server is back."
    )


def _where(fence: Fence, step: str | None) -> str:
    return f"run {fence.run_id!r}{f', step {step!r}' if step else ''}"

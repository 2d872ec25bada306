"""One commit: result, ledger, totals and lease in one MULTI/EXEC, whose last reply says whether it counted.

The verdicts of a reply, and what to do about an unknown one, are rules 1 to 10 of ``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agentcheckpoint.core.lifecycle import since_restart
from agentcheckpoint.core.models import Done, Rejected
from agentcheckpoint.errors import (
    AgentCheckpointError,
    CommitUnknown,
    RunMisuse,
    RunNotFound,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from agentcheckpoint.store.changes import Beside
from agentcheckpoint.store.changes import Change as Change
from agentcheckpoint.store.changes import Committed as Committed
from agentcheckpoint.store.changes import Outdated as Outdated
from agentcheckpoint.store.changes import Superseded as Superseded
from agentcheckpoint.store.claim import Foreign, Gone, settle
from agentcheckpoint.store.effects import (
    Await,
    Lost,
    NotSent,
    Packet,
    Pause,
    Protocol,
    Refusal,
    Reply,
    executed,
)
from agentcheckpoint.store.fence import Fence, Sent
from agentcheckpoint.store.leases import give_back
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.packing import check_unlogged
from agentcheckpoint.store.packing import commit_commands as commit_commands
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.reading import read_results, snapshot, was_deleted
from agentcheckpoint.store.refusals import PASSING, NotNow, refusal_error, telling
from agentcheckpoint.store.upkeep import sweep
from agentcheckpoint.store.verdicts import (
    Verdict,
    gone_error,
    judge,
    torn_error,
    unsettled_error,
)


@dataclass(frozen=True, slots=True)
class _Job:
    """A commit to be made."""

    fence: Fence
    change: Change
    line: str
    new_token: Callable[[int], str]
    step: str | None
    same: Callable[[Done], bool] | None
    patience: Patience = field(default_factory=Patience)


def commit(
    fence: Fence,
    change: Change,
    new_token: Callable[[int], str],
    *,
    step: str | None = None,
    value: object = None,
    same: Callable[[Done], bool] | None = None,
) -> Protocol[Committed | Superseded]:
    """Applies the change once, or raises.

    Args:
        fence: this worker's right to the run.
        change: what to store.
        new_token: makes a token of the given epoch.
        step: the slot concerned, for messages.
        value: the step's result, which every error carries: it may have been paid for.
        same: whether a record of an heir is of the same step with the same inputs.

    Raises:
        LeaseLost, RunDeleted, CommitUnknown, StoreUnavailable, StoreRefused, CheckpointsLost, CheckpointCorrupt,
        RunMisuse (in a forked child).
    """
    line = change.line()
    try:
        return (yield from _commit(_Job(fence, change, line, new_token, step, same)))
    except AgentCheckpointError as exc:
        exc.run_id, exc.step, exc.value = fence.run_id, step, value
        if value is not None and isinstance(exc, CommitUnknown | StoreUnavailable):
            exc.args = (f"{exc} The step's result is in this error's `value`.",)
        raise


def _commit(job: _Job) -> Protocol[Committed | Superseded]:
    fence = job.fence
    trouble: Exception | None = None
    doubt = False
    for times, pause in job.patience.tries():
        yield from _until_settled(fence)
        fence.check_process()
        if fence.heir is not None:  # a sibling or a renewal has met him: nothing more leaves under this token
            return (yield from _look_at_heir(job, fence.heir, doubt=doubt))
        beside = job.change.beside
        _check_watched(beside, fence.token)
        sent = fence.send(result=job.change.result is not None)
        try:
            verdict, outcome = yield from _send(job, sent, times)
        except (NotSent, NotNow) as exc:
            if beside is not None:  # what it watched is watched no more
                raise Outdated(str(exc)) from exc
            trouble = exc
            job.patience.note(exc)
            yield Pause(pause)
            continue
        if verdict == "committed":
            if _is_acknowledged(job, sent, outcome):
                return Committed()
        elif verdict == "torn":
            raise torn_error(fence, job.step, outcome)
        elif verdict == "gone":
            raise (yield from _gone(job))
        elif verdict == "foreign":
            return (yield from _look_at_heir(job, outcome[-1].decode(), doubt=doubt))
        # else moved, went back, unknown: a complete load under a newer token of our own tells
        unjudged = verdict == "committed"  # a sibling has claimed meanwhile, and did not find it
        token = fence.token if unjudged else sent.token
        unknown = doubt or verdict == "unknown"
        doubt = unknown and fence.token != sent.token  # the claim may be older than our packet, and forgotten
        found = yield from _settle(job, token, doubt=unknown or unjudged)
        if found is not None:
            return found
        job.patience.answered()
        trouble = NotNow("each time it was found not to be applied")
    raise unsettled_error(fence, job.step, trouble, doubt=doubt)


def _is_acknowledged(job: _Job, sent: Sent, outcome: Sequence[Reply]) -> bool:
    """Whether it counts, by the replies under its own head; ``False``: a sibling has claimed, and did not find it."""
    fence, change = job.fence, job.change
    fence.hear(outcome[-2])
    if change.unlogged and check_unlogged(fence, sent, outcome, change):
        return True
    return fence.acknowledge(sent, change.entry.id, outcome[0], outcome[2] if change.result is not None else None)


def _check_watched(beside: Beside | None, token: str) -> None:
    """Raises ``Outdated`` if a user's transaction watches another token than is current."""
    if beside is not None and beside.token != token:
        raise Outdated("this worker has claimed the run again")


def _until_settled(fence: Fence) -> Protocol[None]:
    """Waits for the settlement that a sibling has under way."""
    while (settling := fence.settlement()) is not None:
        try:
            yield Await(settling)
        except RunMisuse:  # a blocking step on the very loop that settles: the verdict tells whether it counted
            return


def _send(job: _Job, sent: Sent, times: int) -> Protocol[tuple[Verdict, Sequence[Reply]]]:
    """The verdict, and EXEC's replies if it came to that.

    Raises:
        NotSent, NotNow: nothing was applied, and another try may do.
        Outdated: nothing was applied.
        StoreRefused: nothing was applied.
    """
    fence, beside = job.fence, job.change.beside
    line = None if beside is None else beside.line
    try:
        replies = yield Packet(commit_commands(fence, sent.token, job.change, job.line), patience=times, line=line)
    except (NotSent, StoreRefused):
        fence.withdraw(sent)
        raise
    except Lost as exc:
        job.patience.note(exc)
        return "unknown", ()
    if beside is not None:
        replies = beside.take_out(replies)
    verdict = judge(fence, sent.token, replies)
    if verdict == "refused":
        fence.withdraw(sent)
        if beside is not None and replies[-1] is None:
            raise Outdated("what it has read was changed meanwhile")
        why = telling(replies) if isinstance(replies[-1], Refusal) else Refusal("", "EXEC gave nil")
        if why.code in PASSING:
            raise NotNow(str(why))
        raise refusal_error(fence.run_id, why, step=job.step)
    return verdict, executed(replies) or ()


def _settle(job: _Job, token: str, *, doubt: bool) -> Protocol[Committed | Superseded | None]:
    """What became of the change that was sent under ``token``; ``None``: it was not applied, and never will be.

    One claim serves all siblings. Without ``doubt`` it is known already not to have been applied.
    """
    fence = job.fence
    while fence.token == token:
        fence.check_process()
        if fence.heir is not None:  # a sibling's settlement has met him
            return (yield from _look_at_heir(job, fence.heir, doubt=doubt))
        settling = fence.begin_settlement(token)
        if settling is None and (yield from _is_settled_by_sibling(job, doubt=doubt)):
            continue
        error: Exception | None = None
        try:
            outcome = yield from settle(fence, job.new_token, job.patience)
        except (CommitUnknown, StoreUnavailable, StoreRefused) as exc:
            error = exc
            raise unsettled_error(fence, job.step, exc, doubt=doubt) from exc
        finally:
            if settling is not None:
                fence.end_settlement(settling, error)
        if isinstance(outcome, Foreign):
            return (yield from _look_at_heir(job, outcome.head, doubt=doubt))
        if isinstance(outcome, Gone):
            raise (yield from _gone(job))
    if job.change.entry.id not in fence.committed:
        return None
    if job.change.release:  # the claim has set the lease anew
        yield from give_back(fence, fence.token)
    return Committed()


def _is_settled_by_sibling(job: _Job, *, doubt: bool) -> Protocol[bool]:
    """Waits for the settlement under way. A blocking step on the very loop that settles cannot wait: ``False``."""
    other = job.fence.settlement()
    try:
        failed = (yield Await(other)) if other is not None else None
    except RunMisuse:
        return False
    if failed is not None:
        raise unsettled_error(job.fence, job.step, failed, doubt=doubt)
    return True


def _look_at_heir(job: _Job, heir: str, *, doubt: bool) -> Protocol[Committed | Superseded]:
    """Another worker is current. Our packet may have come before its claim; or it has done the step itself.

    Raises:
        LeaseLost: neither.
        CommitUnknown: there was doubt, and the heir's log cannot be read.
    """
    fence = job.fence
    fence.heir = heir
    outcome: Committed | Superseded | None = None
    try:
        loaded = yield from snapshot(fence, job.patience)
        doubt = False
        if job.change.entry.id in loaded.ids:
            outcome = Committed()
        elif (theirs := _same_step(loaded, job.same)) is not None:
            results = yield from read_results(fence, loaded.token, (theirs.id,), job.patience)
            outcome = Superseded(theirs, results[theirs.id])
    except RunNotFound:
        raise (yield from _gone(job)) from None
    except StoreError as exc:  # whatever the heir's log is, this worker has lost the run
        if doubt:
            raise unsettled_error(fence, job.step, exc, doubt=True) from exc
    yield from sweep(fence)
    if outcome is None:
        raise fence.lost_to(heir, step=job.step)
    return outcome


def _same_step(loaded: Loaded, same: Callable[[Done], bool] | None) -> Done | None:
    """The heir's record of the step, unless he has rejected it since."""
    rejected = {entry.target for entry in loaded.entries if isinstance(entry, Rejected)}
    for entry in reversed(since_restart(loaded.entries)):
        if same is not None and isinstance(entry, Done) and entry.id not in rejected and same(entry):
            return entry
    return None


def _gone(job: _Job) -> Protocol[AgentCheckpointError]:
    """The error for a run that has no head: it was deleted, or the store has lost it."""
    fence = job.fence
    try:
        deleted = yield from was_deleted(fence, job.patience)
    except (StoreUnavailable, StoreRefused) as exc:
        return unsettled_error(fence, job.step, exc, doubt=True)
    if deleted:
        yield from sweep(fence)
    return gone_error(fence, job.step, deleted=deleted)

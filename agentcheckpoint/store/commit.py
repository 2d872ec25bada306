"""One commit: result, ledger, totals and lease in one MULTI/EXEC, whose last reply says whether it counted.

The verdicts of a reply, and what to do about an unknown one, are rules 1 to 10 of ``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agentcheckpoint.core.models import Done, LogEntry, Logged
from agentcheckpoint.errors import (
    CheckpointCorrupt,
    CommitUnknown,
    RunDeleted,
    RunMisuse,
    StoreError,
    StoreUnavailable,
)
from agentcheckpoint.store.claim import PAUSES, Foreign, Gone, Taken, settle
from agentcheckpoint.store.effects import (
    Await,
    Command,
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
from agentcheckpoint.store.reading import find_entry, read_results
from agentcheckpoint.store.refusals import PASSING, NotNow, refusal_error, telling

Verdict: TypeAlias = Literal["committed", "moved", "went back", "foreign", "gone", "torn", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit carries: one log entry, its result if it has one, what the totals grow by, new fields."""

    entry: Logged
    result: bytes | None = None
    totals: Mapping[str, int] = field(default_factory=dict[str, int])
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    release: bool = False
    """Give the lease back instead of renewing it."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The change is stored, and was applied once."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The run is an heir's now, and the heir has recorded this very step: here is his record and its result."""

    entry: Done
    result: bytes


class Unsettled(Exception):
    """The server stayed away while this worker, or a sibling, tried to learn what a packet had done."""


def commit_commands(fence: Fence, token: str, change: Change) -> tuple[Command, ...]:
    """The packet: one round trip, nothing watched, the head read last."""
    keys = fence.keys
    line = change.entry.model_dump_json(exclude_none=True)
    commands: list[Command] = [("MULTI",), ("RPUSH", keys.log(token), line)]
    if change.result is not None:
        commands.append(("HSET", keys.results(token), change.entry.id, change.result))
        commands.append(("HLEN", keys.results(token)))
    for name, delta in change.totals.items():
        commands.append(("HINCRBY", keys.meta(token), name, delta))
    if change.fields:
        commands.append(("HSET", keys.meta(token), *(part for pair in change.fields.items() for part in pair)))
    if change.release:
        commands.append(("DEL", keys.lease(token)))
    else:
        commands.append(("SET", keys.lease(token), fence.holder, "PX", fence.ttl_ms))
    return (*commands, ("GET", keys.head), ("EXEC",))


def judge(fence: Fence, token: str, replies: Sequence[Reply]) -> Verdict:
    """What the replies to a commit packet of ``token`` mean: rule 1."""
    outcome = executed(replies)
    if outcome is None:
        if replies[0] == b"OK" or all(isinstance(reply, Refusal) for reply in replies):
            return "refused"
        return "unknown"  # MULTI failed and what followed ran on its own
    head = outcome[-1]
    if isinstance(head, Refusal):
        return "torn"
    if head is None:
        return "gone"
    current: str = head.decode()
    if current == token:
        return "torn" if any(isinstance(reply, Refusal) for reply in outcome) else "committed"
    if current in fence.issued:
        return "moved" if fence.issued.index(current) > fence.issued.index(token) else "went back"
    return "foreign"


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
        LeaseLost, RunDeleted, CommitUnknown, StoreUnavailable, StoreRefused, CheckpointsLost, CheckpointCorrupt.
    """
    try:
        return (yield from _commit(fence, change, new_token, step, value, same))
    except (StoreError, RunMisuse) as exc:
        exc.step, exc.value = step, value
        raise


def _commit(
    fence: Fence,
    change: Change,
    new_token: Callable[[int], str],
    step: str | None,
    value: object,
    same: Callable[[Done], bool] | None,
) -> Protocol[Committed | Superseded]:
    trouble: Exception | None = None
    for patience, pause in enumerate(PAUSES, start=1):
        while (settling := fence.settlement()) is not None:
            yield Await(settling)
        fence.check()
        sent = fence.send(result=change.result is not None)
        try:
            replies: list[Reply] = yield Packet(commit_commands(fence, sent.token, change), patience=patience)
        except NotSent as exc:
            fence.withdraw(sent)
            trouble = exc
            yield Pause(pause)
            continue
        except Lost as exc:
            trouble = exc
            verdict: Verdict = "unknown"
            replies = []
        else:
            verdict = judge(fence, sent.token, replies)
        outcome = (executed(replies) if replies else None) or []
        if verdict == "committed":
            return _acknowledge(fence, sent, change, outcome)
        if verdict == "refused":
            fence.withdraw(sent)
            why = telling(replies) if any(isinstance(r, Refusal) for r in replies) else Refusal("", "EXEC gave nil")
            if why.code not in PASSING:
                raise refusal_error(fence.run_id, why, step=step, value=value)
            trouble = NotNow(str(why))
            yield Pause(pause)
        elif verdict == "torn":
            raise _torn(fence, step, outcome)
        elif verdict == "gone":
            raise _gone(fence, step, value)
        elif verdict == "foreign":
            return (yield from _look_at_heir(fence, change, outcome[-1].decode(), step, value, same))
        else:  # moved, went back, unknown: a complete load under a newer token of our own tells
            try:
                found = yield from _settle(fence, sent.token, change, new_token)
            except Unsettled as exc:
                raise _gave_up(fence, exc, step, value) from exc
            if isinstance(found, Foreign):
                return (yield from _look_at_heir(fence, change, found.head, step, value, same))
            if isinstance(found, Gone):
                raise _gone(fence, step, value)
            if found:
                return Committed()
    raise _gave_up(fence, trouble, step, value)


def _acknowledge(fence: Fence, sent: Sent, change: Change, outcome: Sequence[Reply]) -> Committed:
    fence.acknowledge(sent, change.entry.id, outcome[0], outcome[2] if change.result is not None else None)
    return Committed()


def _settle(
    fence: Fence, token: str, change: Change, new_token: Callable[[int], str]
) -> Protocol[bool | Foreign | Gone]:
    """Whether the change, sent under ``token``, was applied. One claim serves all siblings."""
    while fence.token == token:
        settling = fence.begin_settlement(token)
        if settling is None:
            other = fence.settlement()
            failed = (yield Await(other)) if other is not None else None
            if failed is not None:
                raise Unsettled(str(failed))
            fence.check()
            continue
        error: Exception | None = None
        try:
            outcome = yield from settle(fence, new_token)
        except (CommitUnknown, StoreUnavailable) as exc:
            error = exc
            raise Unsettled(str(exc)) from exc
        finally:
            fence.end_settlement(settling, error)
        if not isinstance(outcome, Taken):
            return outcome
    return change.entry.id in fence.committed


def _look_at_heir(
    fence: Fence,
    change: Change,
    heir: str,
    step: str | None,
    value: object,
    same: Callable[[Done], bool] | None,
) -> Protocol[Committed | Superseded]:
    """Another worker is current. Our packet may have come before its claim; or it has done the step itself."""
    fence.heir = heir
    fence.doubtful = True

    def wanted(entry: LogEntry) -> bool:
        if entry.id == change.entry.id:
            return True
        return same is not None and isinstance(entry, Done) and same(entry)

    found = yield from find_entry(fence, wanted)
    if found is None:
        raise fence.lost_to(heir, step=step, value=value)
    token, entry = found
    if entry.id == change.entry.id:
        return Committed()
    assert isinstance(entry, Done)
    results = yield from read_results(fence, token, (entry.id,))
    return Superseded(entry, results[entry.id])


def _torn(fence: Fence, step: str | None, outcome: Sequence[Reply]) -> CheckpointCorrupt:
    errors = "; ".join(str(reply) for reply in outcome if isinstance(reply, Refusal))
    return CheckpointCorrupt(
        f"run {fence.run_id!r}{f', step {step!r}' if step else ''}: a commit was applied in part: {errors}. A key of "
        "the run is not of the type that agentcheckpoint writes, so it does not count. Look at the run's keys "
        f"({fence.keys.head}): another program has written there.",
        run_id=fence.run_id,
    )


def _gone(fence: Fence, step: str | None, value: object) -> RunDeleted:
    return RunDeleted(
        f"run {fence.run_id!r}{f', step {step!r}' if step else ''}: the run was deleted while this worker was at it. "
        "Nothing was written. Stop here.",
        run_id=fence.run_id,
        step=step,
        value=value,
    )


def _gave_up(fence: Fence, trouble: Exception | None, step: str | None, value: object) -> StoreError:
    where = f"run {fence.run_id!r}{f', step {step!r}' if step else ''}"
    if isinstance(trouble, NotSent | NotNow):
        return StoreUnavailable(
            f"{where}: the store could not take the commit in {len(PAUSES)} tries: {trouble}. It was not applied; the "
            "step's result is in this error's `value`. Open the run again when the server is back.",
            run_id=fence.run_id,
            step=step,
            value=value,
        )
    return CommitUnknown(
        f"{where}: the server went away before it said whether the commit was applied, {len(PAUSES)} times: {trouble}. "
        "The step's result is in this error's `value`. Opening the run again settles whether it is stored.",
        run_id=fence.run_id,
        step=step,
        value=value,
    )

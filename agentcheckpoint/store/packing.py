"""The packet of one commit: what leaves, and what the replies to one without a log entry must be."""

from __future__ import annotations

from collections.abc import Sequence

from agentcheckpoint.errors import CheckpointsLost
from agentcheckpoint.store.changes import Change
from agentcheckpoint.store.effects import Command, Reply
from agentcheckpoint.store.fence import Fence, Sent


def commit_commands(fence: Fence, token: str, change: Change, line: str) -> tuple[Command, ...]:
    """The packet: one round trip, the head read last. ``line`` is the entry as it is stored."""
    keys = fence.keys
    log: Command = ("LLEN", keys.log(token)) if change.unlogged else ("RPUSH", keys.log(token), line)
    commands: list[Command] = [("MULTI",), log]
    if change.result is not None:
        commands += [("HSET", r := keys.results(token), change.entry.id, change.result), ("HLEN", r)]
    for name, delta in change.totals.items():
        commands.append(("HINCRBY", keys.meta(token), name, delta))
    if change.fields:
        commands.append(("HSET", keys.meta(token), *(part for pair in change.fields.items() for part in pair)))
    if change.drop:
        commands.append(("HDEL", keys.meta(token), *change.drop))
    if change.release:
        commands.append(("DEL", keys.lease(token)))
    else:
        commands.append(("SET", keys.lease(token), fence.holder, "PX", fence.ttl_ms))
    if change.beside is not None:
        commands += change.beside.commands
    return (*commands, ("GET", keys.cancel), ("GET", keys.head), ("EXEC",))


def check_unlogged(fence: Fence, sent: Sent, outcome: Sequence[Reply], *, stands: bool) -> bool:
    """Whether the replies of a commit without a log entry that was applied agree with what is known.

    Raises:
        CheckpointsLost: the log is shorter than this worker knows it to be, or the field that stood there was gone.
    """
    fence.withdraw(sent)
    log, added = outcome[0], outcome[1]
    if log >= sent.log_least - 1 and not (stands and added):
        return True
    raise CheckpointsLost(
        f"run {fence.run_id!r}: after this commit its log should hold {sent.log_least - 1} entries or more and it "
        f"holds {log!r}; {'the cursor before it was gone' if stands and added else 'its cursor stands'}. Data was lost "
        "(evicted, rolled back or deleted by somebody else). Check maxmemory-policy (noeviction), persistence, and who "
        "uses the keys 'ac:*'.",
        run_id=fence.run_id,
    )

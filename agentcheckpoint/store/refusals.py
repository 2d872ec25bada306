"""Error replies: which will pass, which mean that nothing was applied, and what to do about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.effects import Command, Refusal, Reply
from agentcheckpoint.store.loading import corrupt

PASSING = frozenset({"LOADING", "TRYAGAIN", "BUSY", "MASTERDOWN", "CLUSTERDOWN"})
"""Refusals that go away by themselves: worth another try."""

ADVICE = {
    "OOM": "It is out of memory: raise maxmemory or free some, then open the run again.",
    "READONLY": "It is a replica: use the URL of the primary, or of Sentinel (redis+sentinel://).",
    "MOVED": "It is one node of a cluster: use redis+cluster://HOST:PORT.",
    "CROSSSLOT": "Keys of one transaction must lie in one slot of the cluster.",
    "NOPERM": "The ACL user may not do this: docs/store.md lists the commands and keys that are needed.",
    "NOAUTH": "It requires a password: put it into the URL, redis://:PASSWORD@host.",
    "WRONGPASS": "The user name or password is wrong.",
    "LOADING": "It is still loading its data: try again in a moment.",
    "MISCONF": "It cannot save to disk: look at its log and its disk.",
    "NOREPLICAS": "Too few replicas are connected for min-replicas-to-write.",
}


class NotNow(Exception):
    """The server refused for a reason that passes; nothing was applied."""


def nothing_applied(replies: Sequence[Reply]) -> bool:
    """Whether a MULTI/EXEC packet whose EXEC gave no array did nothing: not so if MULTI alone failed, and what
    followed ran on its own."""
    return replies[0] == b"OK" or all(isinstance(reply, Refusal) for reply in replies)


def telling(replies: Sequence[Reply]) -> Refusal:
    """The refusal that says why: EXECABORT only says that there was one."""
    reasons = [reply for reply in replies if isinstance(reply, Refusal)]
    why = next((reply for reply in reasons if reply.code != "EXECABORT"), reasons[0])
    _, quoting, quoted = why.text.partition("because of: ")
    if why.code == "EXECABORT" and quoting:  # a refusal that came only at EXEC
        code, _, text = quoted.partition(" ")
        return Refusal(code, text)
    return why


def refusal_error(run_id: str, why: Refusal, *, step: str | None = None, value: object = None) -> StoreRefused:
    """The error for a write that the server did not apply."""
    return StoreRefused(
        f"run {run_id!r}{f', step {step!r}' if step else ''}: the server refused: {why}. Nothing was applied. "
        f"{ADVICE.get(why.code, 'Mend the cause and open the run again.')}",
        run_id=run_id,
        step=step,
        value=value,
    )


def raise_refusal(run_id: str, commands: Sequence[Command], replies: Sequence[Reply]) -> NoReturn:
    """Raises what the refusal among the replies to these commands means.

    Raises:
        NotNow: it will pass.
        CheckpointCorrupt: a key is of a type that this library does not write.
        StoreRefused: any other.
    """
    why = telling(replies)
    if why.code in PASSING:
        raise NotNow(str(why))
    if why.code == "WRONGTYPE":
        refused = commands[replies.index(why)]
        raise corrupt(run_id, str(refused[1]), f"the server answered {why}")
    raise refusal_error(run_id, why)

"""The list of runs that may want work: what is due, how such a run stands, and when to look at it again.

The list holds hints. What is to be done with a run is decided by the run itself, read under its head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from agentcheckpoint.core import ids
from agentcheckpoint.core.lifecycle import Standing
from agentcheckpoint.core.models import RunState
from agentcheckpoint.errors import InvalidName
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Protocol, Refusal, ms_of
from agentcheckpoint.store.holder import Holder
from agentcheckpoint.store.index import Listed, ask
from agentcheckpoint.store.keys import RunKeys, due_key, is_token
from agentcheckpoint.store.leases import busy
from agentcheckpoint.store.loading import META, corrupt, parse_meta
from agentcheckpoint.store.reading import Address, read_under_head

TRIES = 3
"""How often a note is tried while others write to the list."""
FACTS = (*META, "agent")

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Due:
    """A part of the list, the longest due first.

    Attributes:
        now_ms: the server's clock, milliseconds since the epoch.
        runs: those that are due by it; the time of each is its note.
        ahead: those that come next, and have time: they sleep, or somebody works on them.
        more: whether others may be due behind them.
    """

    now_ms: int
    runs: tuple[Listed, ...]
    ahead: tuple[Listed, ...]
    more: bool


def due_runs(namespace: str, skip: int, most: int) -> Protocol[Due]:
    """What stands in the list after its first ``skip`` lines, ``most`` lines of it.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    time, flat = yield from ask(("TIME",), ("ZRANGE", due_key(namespace), skip, skip + most - 1, "WITHSCORES"))
    now = ms_of(time)
    pairs = zip(flat[::2], flat[1::2], strict=True)
    lines = [Listed(name.decode("utf-8", "replace"), int(float(at))) for name, at in pairs]
    ready = tuple(line for line in lines if line.at_ms <= now)
    return Due(now, ready, tuple(lines[len(ready) :]), len(ready) == most)


def left_by_dead(namespace: str, runs: Sequence[Listed], released: Callable[[Holder], bool]) -> Protocol[list[Listed]]:
    """Those of the runs whose holder is provably dead, as far as can be told from here, or has released them.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    named = {run: RunKeys(tag) for run in runs if (tag := _tag(namespace, run.run_id))}
    if not named:
        return []
    under = yield from _heads(named)
    if not under:
        return []
    leases = yield from ask(*(("GET", keys.lease(head)) for keys, head in under.values()))
    found: list[Listed] = []
    for run, lease in zip(under, leases, strict=True):
        if isinstance(lease, bytes) and busy(run.run_id, "", lease, 0, released) is None:
            found.append(run)
    return found


def _heads(runs: Mapping[K, RunKeys]) -> Protocol[dict[K, tuple[RunKeys, str]]]:
    """The keys and the current token of each run that has one."""
    heads = yield from ask(*(("GET", keys.head) for keys in runs.values()))
    return {
        run: (keys, head.decode("ascii"))
        for (run, keys), head in zip(runs.items(), heads, strict=True)
        if isinstance(head, bytes) and is_token(head.decode("ascii", "replace"))
    }


def _tag(namespace: str, run_id: str) -> str | None:
    try:
        return ids.run_tag(namespace, run_id)
    except InvalidName:
        return None


def standing_of(address: Address, released: Callable[[Holder], bool]) -> Protocol[tuple[Standing, int]]:
    """How a run stands, and the server's clock at that moment.

    Args:
        address: which run.
        released: tells whether a holder is this very process and has closed that run already.

    Raises:
        RunNotFound: there is no such run (any more).
        CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    keys = address.keys

    def questions(head: str) -> tuple[Command, ...]:
        lease = keys.lease(head)
        meta = ("HMGET", keys.meta(head), *FACTS)
        return (meta, ("GET", lease), ("PTTL", lease), ("EXISTS", keys.cancel), ("TIME",), ("GET", keys.head))

    head, replies = yield from read_under_head(address, questions)
    for command, reply in zip(questions(head), replies, strict=True):
        if isinstance(reply, Refusal):
            raise corrupt(address.run_id, str(command[1]), f"the server answered {reply}")
    values, lease, ttl, cancel, time, _ = replies
    fields = parse_meta(address.run_id, keys.meta(head), values[: len(META)])
    (agent,) = values[len(META) :]
    who = None if lease is None else busy(address.run_id, keys.lease(head), lease, ttl, released)
    return (
        Standing(
            state=cast("RunState", fields["state"]),
            due_ms=int(fields["due"]) if fields["due"] else None,
            held_ms=None if who is None else int(who.ttl * 1000),
            cancelled=bool(cancel),
            agent=agent.decode("utf-8", "replace") if agent else None,
        ),
        ms_of(time),
    )


def note_look(namespace: str, run: Listed, at_ms: int | None) -> Protocol[bool]:
    """Notes when to look at a listed run again; ``None``: never. A note that somebody wrote since then stays.

    Returns:
        Whether it is noted: of several who looked at the run at once, one is told so.
    """
    key = due_key(namespace)
    change: Command = ("ZREM", key, run.run_id) if at_ms is None else ("ZADD", key, at_ms, run.run_id)
    for _ in range(TRIES):
        try:
            replies = yield Packet((("WATCH", key), ("ZSCORE", key, run.run_id)), held=True)
            score = replies[1]
            if not isinstance(score, bytes) or int(float(score)) != run.at_ms:
                return False
            replies = yield Packet((("MULTI",), change, ("EXEC",)), held=True)
        except (NotSent, Lost):
            return False
        if isinstance(replies[-1], list):
            return True
    return False


def unlisted(namespace: str, runs: Sequence[str]) -> Protocol[list[str]]:
    """Those of the runs on which there may be work, and that do not stand in the list, as far as one look tells.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    (scores,) = yield from ask(("ZMSCORE", due_key(namespace), *runs))
    missing = {
        run_id: RunKeys(tag)
        for run_id, score in zip(runs, scores, strict=True)
        if score is None and (tag := _tag(namespace, run_id))
    }
    under = (yield from _heads(missing)) if missing else {}
    if not under:
        return []
    states = yield from ask(*(("HMGET", keys.meta(head), "state", "due") for keys, head in under.values()))
    asked = yield from ask(*(("EXISTS", keys.cancel) for keys, _ in under.values()))
    return [
        run_id
        for run_id, (state, due), said in zip(under, states, asked, strict=True)
        if state in (b"running", b"interrupted") or (state in (b"waiting", b"retryable") and (due or said))
    ]


def relist(namespace: str, run_id: str) -> Protocol[bool]:
    """Lists a run as due, if it stands there no more; returns whether it did not."""
    (added,) = yield from ask(("ZADD", due_key(namespace), "NX", 0, run_id))
    return bool(added)

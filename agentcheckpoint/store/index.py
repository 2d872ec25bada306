"""The list of a namespace's runs: hints for whoever looks, written beside the runs and never part of a commit.

A run's keys are found by its id. Here stand the ids, by when each run was last opened. What stands here may be late or
gone, and nothing is judged by it: each opening writes its line anew, and ``rebuild`` makes them all from the runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentcheckpoint.core import ids
from agentcheckpoint.core.models import Birth, Opened
from agentcheckpoint.errors import CheckpointCorrupt, InvalidName, SchemaTooNew, StoreRefused, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply
from agentcheckpoint.store.keys import RunKeys, due_key, index_key
from agentcheckpoint.store.loading import parse_entry, parse_head
from agentcheckpoint.store.refusals import ADVICE, PASSING
from agentcheckpoint.store.store import Store

PAGE = 500
"""How many runs are asked for at a time."""
PAUSES = (0.02, 0.1, 0.4, 1.6)
"""Seconds between tries."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list.

    Attributes:
        run_id: as it stands there: what is no valid id is no run.
        at_ms: when it was last opened, milliseconds since the epoch on the server's clock.
    """

    run_id: str
    at_ms: int


def list_run(namespace: str, run_id: str, at_ms: int, look_ms: int) -> Protocol[bool]:
    """Notes that a run was opened, and when to look whether its worker has died; whether that is known to be noted.

    A worker that comes late moves nothing back.
    """
    opened: Command = ("ZADD", index_key(namespace), "GT", at_ms, run_id)
    return (yield from _noted((opened, ("ZADD", due_key(namespace), look_ms, run_id))))


def list_due(namespace: str, run_id: str, at_ms: int | None) -> Protocol[bool]:
    """Notes when somebody should look whether there is work on a run; ``None``: never."""
    key = due_key(namespace)
    return (yield from _noted((("ZREM", key, run_id) if at_ms is None else ("ZADD", key, at_ms, run_id),)))


def unlist_run(namespace: str, run_id: str) -> Protocol[None]:
    """Takes a deleted run from the lists. If that is lost, its lines stay: they say nothing that is believed."""
    yield from _noted((("ZREM", index_key(namespace), run_id), ("ZREM", due_key(namespace), run_id)))


def _noted(commands: tuple[Command, ...]) -> Protocol[bool]:
    try:
        replies = yield Packet(commands)
    except (NotSent, Lost):
        return False
    return not any(isinstance(reply, Refusal) for reply in replies)


def listed_since(namespace: str, at_ms: int, most: int) -> Protocol[list[Listed]]:
    """The runs that were last opened at that time or later, the longest ago first.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    key = index_key(namespace)
    (flat,) = yield from ask(("ZRANGE", key, at_ms, "+inf", "BYSCORE", "LIMIT", 0, most, "WITHSCORES"))
    return [Listed(name.decode("utf-8", "replace"), int(float(at))) for name, at in zip(*[iter(flat)] * 2, strict=True)]


def listed_runs(store: Store, namespace: str) -> Iterator[str]:
    """The ids of all listed runs, each once, page by page. One that is opened meanwhile moves on, and is not missed.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    seen: set[str] = set()
    at, here = 0, 0
    while True:
        asked = PAGE + here  # those of the last millisecond come again
        page = store.run(listed_since(namespace, at, asked))
        for run in page:
            if run.run_id not in seen:
                seen.add(run.run_id)
                yield run.run_id
        if len(page) < asked:
            return
        at = page[-1].at_ms
        here = sum(run.at_ms == at for run in page)


def rebuild(store: Store) -> int:
    """Lists every run of the store anew, from the runs themselves; returns how many. For an operator: it takes SCAN.

    Nothing in the library calls it. Runs that cannot be read are left out.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    cursor: Reply = b"0"
    found = 0
    while True:
        ((cursor, names),) = store.run(ask(("SCAN", cursor, "MATCH", "ac:{*}:head", "COUNT", PAGE)))
        for name in names:
            tag = name.decode("utf-8", "replace").removeprefix("ac:{").removesuffix("}:head")
            found += store.run(_list_from(RunKeys(tag)))
        if cursor == b"0":
            return found


def _list_from(keys: RunKeys) -> Protocol[bool]:
    try:
        (found,) = yield from ask(("GET", keys.head))
        head = parse_head(keys.tag, keys.head, found)
        if head is None:
            return False
        (lines,) = yield from ask(("LRANGE", keys.log(head), 0, -1))
        entries = [parse_entry(keys.tag, keys.log(head), i, line) for i, line in enumerate(lines)]
        birth = next((entry for entry in entries if isinstance(entry, Birth)), None)
        if birth is None or ids.run_tag(birth.namespace, birth.run) != keys.tag:
            return False
    except (CheckpointCorrupt, InvalidName, SchemaTooNew):
        return False
    at = max((entry.at for entry in entries if isinstance(entry, Opened)), default=birth.at)
    return (yield from list_run(birth.namespace, birth.run, at, at))


def ask(*commands: Command) -> Protocol[list[Reply]]:
    """The replies to questions about the lists, which may be asked twice.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    trouble: object = None
    for patience, pause in enumerate(PAUSES, start=1):
        try:
            replies: list[Reply] = yield Packet(commands, patience=patience)
        except (NotSent, Lost) as exc:
            trouble = exc
            yield Pause(pause)
            continue
        refused = next((n for n, reply in enumerate(replies) if isinstance(reply, Refusal)), None)
        if refused is None:
            return replies
        trouble = why = replies[refused]
        if why.code not in PASSING:
            advice = ADVICE.get(why.code, "Look at the key; nothing of a run depends on it.")
            asked = " ".join(map(str, commands[refused][:2]))
            raise StoreRefused(f"the list of runs, {asked}: the server refused: {why}. {advice}")
        yield Pause(pause)
    raise StoreUnavailable(f"the list of runs could not be read in {len(PAUSES)} tries: {trouble}.")

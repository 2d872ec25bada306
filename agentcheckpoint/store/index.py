"""The list of a namespace's runs: hints for whoever looks, written beside the runs and never part of a commit.

A run's keys are found by its id. Here stand the ids, by when each run was last opened. What stands here may be late or
gone, and nothing is judged by it: each opening writes its line anew, and ``rebuild`` makes them all from the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentcheckpoint.core import ids
from agentcheckpoint.core.models import Birth, Opened
from agentcheckpoint.errors import CheckpointCorrupt, InvalidName, SchemaTooNew, StoreRefused, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, Node, NotSent, Packet, Pause, Protocol, Refusal, Reply
from agentcheckpoint.store.kept import parse_about
from agentcheckpoint.store.keys import BIRTH, RunKeys, due_key, index_key, kept_index_key
from agentcheckpoint.store.loading import parse_entry, parse_head
from agentcheckpoint.store.refusals import ADVICE, PASSING
from agentcheckpoint.store.store import Store

PAGE = 500
"""How many runs are asked for at a time."""
LISTS = "runs-"
"""How the tags of lists begin: a run's is a digest."""
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


def list_ahead(namespace: str, run_id: str) -> Protocol[bool]:
    """Notes a run that is about to be taken, if nothing is noted of it: whoever takes it may die at once."""
    return (yield from _noted((("ZADD", due_key(namespace), "NX", 0, run_id),)))


def list_due(namespace: str, run_id: str, at_ms: int | None) -> Protocol[bool]:
    """Notes when somebody should look whether there is work on a run; ``None``: never."""
    key = due_key(namespace)
    return (yield from _noted((("ZREM", key, run_id) if at_ms is None else ("ZADD", key, at_ms, run_id),)))


def unlist_runs(namespace: str, run_ids: Sequence[str], *, kept_at_ms: int | None = None) -> Protocol[None]:
    """Takes deleted runs from the lists. If that is lost, their lines stay: they say nothing that is believed.

    Args:
        namespace: whose lists.
        run_ids: which runs; they must have a tombstone, so that none of them is listed again.
        kept_at_ms: their ledgers are kept since then: they go to the list of these.
    """
    kept = kept_index_key(namespace)
    commands: tuple[Command, ...] = (("ZREM", index_key(namespace), *run_ids), ("ZREM", due_key(namespace), *run_ids))
    if kept_at_ms is None:
        commands = (*commands, ("ZREM", kept, *run_ids))
    else:
        commands = (*commands, ("ZADD", kept, *(part for run in run_ids for part in (kept_at_ms, run))))
    if run_ids:
        yield from _noted((("MULTI",), *commands, ("EXEC",)))


def _noted(commands: tuple[Command, ...]) -> Protocol[bool]:
    """Whether it is known to be noted. To say it twice is to say it once."""
    try:
        yield from ask(*commands)
    except (StoreRefused, StoreUnavailable):
        return False
    return True


def listed_since(
    namespace: str, at_ms: int, most: int, until_ms: int | None = None, key_of: Callable[[str], str] = index_key
) -> Protocol[list[Listed]]:
    """The runs that were last opened at that time or later, and no later than ``until_ms``, the longest ago first.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    last, key = "+inf" if until_ms is None else until_ms, key_of(namespace)
    (flat,) = yield from ask(("ZRANGE", key, at_ms, last, "BYSCORE", "LIMIT", 0, most, "WITHSCORES"))
    return _lines(flat)


def _lines(flat: Sequence[bytes]) -> list[Listed]:
    return [Listed(name.decode("utf-8", "replace"), int(float(at))) for name, at in zip(*[iter(flat)] * 2, strict=True)]


def newest(namespace: str, most: int, before_ms: int | None = None) -> Protocol[list[Listed]]:
    """The runs that were last opened before that time, the last one first.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    last = "+inf" if before_ms is None else f"({before_ms}"
    (flat,) = yield from ask(
        ("ZRANGE", index_key(namespace), last, "-inf", "BYSCORE", "REV", "LIMIT", 0, most, "WITHSCORES")
    )
    return _lines(flat)


def listed_runs(
    store: Store, namespace: str, until_ms: int | None = None, key_of: Callable[[str], str] = index_key
) -> Iterator[str]:
    """The ids of all listed runs, each once, page by page. One that is opened meanwhile moves on, and is not missed.

    Args:
        store, namespace: whose runs.
        until_ms: those alone that were last opened then or before.
        key_of: which list; with ``kept_index_key`` that of deleted runs whose ledgers are kept, by their deletion.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    seen: set[str] = set()
    at, here = 0, 0
    while True:
        asked = PAGE + here  # those of the last millisecond come again
        page = store.run(listed_since(namespace, at, asked, until_ms, key_of))
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

    Deleted runs whose ledgers are kept are among them. Nothing in the library calls it. Runs that cannot be read are
    left out.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    return sum(store.run(_list_from(keys)) for keys in _tags(store, "head")) + sum(
        store.run(_list_kept_from(keys)) for keys in _tags(store, "kept")
    )


def _tags(store: Store, last: str) -> Iterator[RunKeys]:
    """The runs that have a key of that name."""
    for node in store.servers():
        cursor: Reply = b""
        while cursor != b"0":
            asked: Command = ("SCAN", cursor or b"0", "MATCH", f"ac:{{*}}:{last}", "COUNT", PAGE)
            ((cursor, names),) = store.run(ask(asked, node=node))
            for name in names:
                tag = name.decode("utf-8", "replace").removeprefix("ac:{").removesuffix(f"}}:{last}")
                if not tag.startswith(LISTS):
                    yield RunKeys(tag)


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


def _list_kept_from(keys: RunKeys) -> Protocol[bool]:
    try:
        (line,) = yield from ask(("HGET", keys.kept, BIRTH))
        about = parse_about(keys, keys.tag, line)
        if ids.run_tag(about.namespace, about.run) != keys.tag:
            return False
    except (CheckpointCorrupt, InvalidName, SchemaTooNew):
        return False
    yield from unlist_runs(about.namespace, (about.run,), kept_at_ms=about.at)
    return True


def ask(*commands: Command, node: Node | None = None) -> Protocol[list[Reply]]:
    """The replies to what is asked of the lists, or noted there: it may be sent twice.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    trouble: object = None
    for patience, pause in enumerate(PAUSES, start=1):
        try:
            replies: list[Reply] = yield Packet(commands, patience=patience, node=node)
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
    raise StoreUnavailable(f"the list of runs could not be reached in {len(PAUSES)} tries: {trouble}.")

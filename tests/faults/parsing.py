"""A damaged run read by the library's pure functions alone, and whether what they took is what stands there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core import ledger
from agentcheckpoint.core.codec import annotation_of, result_type
from agentcheckpoint.core.cursors import FIELD, Cursors, parse_cursor
from agentcheckpoint.core.journal import Journal
from agentcheckpoint.core.models import LOG_ENTRY, SCHEMA, About, Birth, Closed, Done, RunState
from agentcheckpoint.explain import busy_error, placed
from agentcheckpoint.openai.answer import Answer
from agentcheckpoint.options import RunOptions
from agentcheckpoint.show.text import step_rows
from agentcheckpoint.store import loading
from agentcheckpoint.store.effects import Refusal
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import BIRTH
from agentcheckpoint.store.leases import busy
from agentcheckpoint.store.refusals import raise_refusal

from . import rich
from .stored import LEASE_MS, Contents, Odd, Value, keys_of

KEYS = keys_of(rich.RUN)
WRONGTYPE = Refusal("WRONGTYPE", "Operation against a key holding the wrong kind of value")


def read(contents: Contents, token: str) -> loading.Loaded:
    """Loads the run as the library does."""
    head = loading.parse_head(rich.RUN, KEYS.head, _reply(contents, KEYS.head, bytes, None))
    if head is None:
        raise loading.lost_head(rich.RUN, KEYS.head)
    lease = _reply(contents, KEYS.lease(token), bytes, None)
    if isinstance(lease, bytes) and (who := busy(rich.RUN, KEYS.lease(token), lease, LEASE_MS, lambda _: False)):
        raise busy_error(rich.RUN, who.holder, who.ttl)
    cancel = _reply(contents, KEYS.cancel, bytes, None)
    if isinstance(cancel, Refusal):
        raise_refusal(rich.RUN, (("GET", KEYS.cancel),), (cancel,))
    Fence(KEYS, "default", rich.RUN).hear(cancel)
    return loading.parse_load(KEYS, "default", rich.RUN, head, _replies(contents, head))


def go_over(loaded: loading.Loaded) -> None:
    """Folds the log as a journal, a ledger and a table do."""
    Journal(loaded.entries).unmet()
    Cursors(loaded.meta, loaded.meta["begun"])
    folded = ledger.fold_entries(ledger.logged_money(loaded.entries), loaded.waste)
    str(ledger.report(folded))
    step_rows(loaded.entries)


def read_line(log: Value, index: int) -> None:
    """Reads one line of a log alone, if it is there."""
    assert isinstance(log, list)
    if index < len(log):
        loading.parse_entry(rich.RUN, KEYS.log("0.a"), index, log[index])


def revive(contents: Contents, loaded: loading.Loaded, entry_id: bytes) -> None:
    """Revives the result that is kept under this id."""
    kept = contents[KEYS.results(loaded.token).encode()]
    assert isinstance(kept, dict)
    attempt = Attempt(None, rich.RUN, RunOptions())
    for entry in loaded.entries:
        payload = entry.payload if isinstance(entry, Done) else entry.output if isinstance(entry, Closed) else None
        if payload is None or entry.id.encode() != entry_id:
            continue
        if entry_id not in kept:
            raise loading.lost_head(rich.RUN, KEYS.results(loaded.token))
        slot = entry.slot if isinstance(entry, Done) else ""
        data = attempt.chain.decode(kept[entry_id], payload, attempt.where(slot, entry.id))
        with placed(rich.RUN, slot or None):
            _decoder(slot)(data)


def _decoder(slot: str) -> Callable[[bytes], Any]:
    if slot in ("think", "judge"):
        return Answer.from_bytes
    function = rich.FUNCTIONS.get(slot.partition("[")[0].partition("#")[0])
    return result_type(dict[str, str] if function is None else annotation_of(function)).decode


def trouble(contents: Contents, loaded: loading.Loaded, sound: Contents) -> str | None:
    """What was taken that is not what stands there, by another reader of JSON; lines that are sound are skipped."""
    lines, kept, meta = (contents.get(name.encode()) for name in KEYS.data(loaded.token))
    if not isinstance(lines, list) or not isinstance(meta, dict) or not isinstance(kept, dict):
        return "a key of another type was taken"
    if len(lines) != len(loaded.entries):
        return f"{len(lines)} lines were taken for {len(loaded.entries)} entries"
    birth = loaded.entries[0]
    if not isinstance(birth, Birth) or (birth.namespace, birth.run) != ("default", rich.RUN):
        return "another run's log was taken"
    if {marks.get(BIRTH.encode()) for marks in (meta, kept)} != {birth.id.encode()}:
        return "a birth mark is missing, or another's"
    if loaded.meta["state"] not in RunState.__args__ or str(int(loaded.meta["attempt"])) != loaded.meta["attempt"]:  # type: ignore[attr-defined]
        return "a meta that is not ours was taken"
    if loaded.meta["due"] and str(int(loaded.meta["due"])) != loaded.meta["due"]:
        return "a time that is none was taken"
    begun = next(entry for entry in reversed(loaded.entries) if isinstance(entry, About))
    copies = (loaded.meta["begun"], loaded.meta["agent"], loaded.meta["conversation"])
    if copies != (begun.id, begun.agent or "", begun.conversation or ""):
        return "a run was taken that is filed under another agent or conversation"
    if int(loaded.meta["schema"]) != SCHEMA:
        return "a run of another schema was taken"
    for name, text in loaded.meta.items():
        if name.startswith(FIELD) and (said := _unlike(parse_cursor(name, text).model_dump(), json.loads(text), name)):
            return said
    waste = contents.get(KEYS.waste.encode(), {})
    if not isinstance(waste, dict) or {entry.id.encode() for entry in loaded.waste} != set(waste):
        return "waste was taken that is filed under another id"
    known = sound[KEYS.log(loaded.token).encode()]
    assert isinstance(known, list)
    changed = ((entry, line) for entry, line in zip(loaded.entries, lines, strict=True) if line not in known)
    return next(filter(None, (_differs(entry, line) for entry, line in changed)), None)


def _differs(entry: Any, line: bytes) -> str | None:
    try:
        stands = json.loads(line)
    except ValueError as exc:
        return f"a line was taken that is no JSON: {exc}"
    if entry.v != stands.get("v", SCHEMA) or not 1 <= entry.v <= SCHEMA:
        return f"schema {entry.v} was taken"
    return _unlike(LOG_ENTRY.dump_python(entry, mode="json", exclude_none=True), stands, "$")


def _unlike(taken: Any, stands: Any, where: str) -> str | None:
    """The first thing in ``taken`` that is not so in ``stands``, where more may stand."""
    if isinstance(taken, dict):
        if not isinstance(stands, dict):
            return f"at {where} {stands!r:.40} was taken for {taken!r:.40}"
        return next(
            filter(None, (_unlike(v, stands[k], f"{where}.{k}") for k, v in taken.items() if k in stands)), None
        )
    if isinstance(taken, list):
        if not isinstance(stands, list) or len(stands) != len(taken):
            return f"at {where} another number of elements was taken"
        return next(filter(None, (_unlike(*pair, where) for pair in zip(taken, stands, strict=True))), None)
    same = type(taken) is type(stands) and taken == stands
    return None if same else f"at {where} {stands!r:.40} was taken for {taken!r:.40}"


def _replies(contents: Contents, token: str) -> list[Any]:
    log, results, meta = (name for name in KEYS.data(token))
    kept = _reply(contents, results, dict, {})
    pairs = _reply(contents, meta, dict, {})
    waste = _reply(contents, KEYS.waste, dict, {})
    return [
        _reply(contents, log, list, []),
        pairs if isinstance(pairs, Refusal) else _flat(pairs),
        kept if isinstance(kept, Refusal) else len(kept),
        kept if isinstance(kept, Refusal) else kept.get(BIRTH.encode()),
        waste if isinstance(waste, Refusal) else _flat(waste),
        [b"1795500000", b"0"],
        token.encode(),
    ]


def _flat(pairs: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in pairs.items() for part in pair]


def _reply(contents: Contents, key: str, kind: type[Value], missing: Any) -> Any:
    """What a command for keys of this type is answered."""
    value = contents.get(key.encode(), missing)
    return value if value is missing or (isinstance(value, kind) and not isinstance(value, Odd)) else WRONGTYPE

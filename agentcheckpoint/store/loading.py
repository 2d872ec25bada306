"""What a load asks for, and whether what came is a whole run: the log, the totals, and their birth marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from pydantic import ValidationError
from pydantic_core import from_json

from agentcheckpoint.core import ids
from agentcheckpoint.core.cursors import trouble_in
from agentcheckpoint.core.lifecycle import about
from agentcheckpoint.core.log_rules import contradiction
from agentcheckpoint.core.models import (
    LOG_ENTRY,
    SCHEMA,
    Birth,
    LedgerEntry,
    LogEntry,
    RunState,
    payload_of,
)
from agentcheckpoint.core.retention import RunSize, size_of
from agentcheckpoint.errors import CheckpointCorrupt, CheckpointsLost, SchemaTooNew, StoreError
from agentcheckpoint.store.effects import Command, Refusal, Reply, ms_of
from agentcheckpoint.store.garbage import uncollected
from agentcheckpoint.store.keys import BIRTH, RunKeys, is_token

_VALIDATE = LOG_ENTRY.validator.validate_json
LOAD_REPLIES = 7

META = (BIRTH, "schema", "state", "attempt", "due")
"""The fields of ``meta`` that every run has."""
_STATES = frozenset(get_args(RunState))
_BEGUN = frozenset({"running", "completed"})
"""The states that only an attempt brings."""
_COUNT = re.compile(r"[1-9][0-9]{0,14}")
_TIME = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run as it stood under one token: complete, or it would not have been built."""

    token: str
    entries: tuple[LogEntry, ...]
    meta: dict[str, str]
    waste: tuple[LedgerEntry, ...]
    results: int
    now_ms: int
    """The server's clock, milliseconds since the epoch."""
    size: RunSize

    @property
    def due_ms(self) -> int | None:
        """When the run goes on by itself, milliseconds since the epoch."""
        return int(self.meta["due"]) if self.meta["due"] else None

    @property
    def ids(self) -> set[str]:
        return {entry.id for entry in self.entries}


def load_commands(keys: RunKeys, token: str) -> tuple[Command, ...]:
    """Reads the whole run but its results. The head comes last: the load counts only if it is still ``token``."""
    return (
        ("LRANGE", keys.log(token), 0, -1),
        ("HGETALL", keys.meta(token)),
        ("HLEN", keys.results(token)),
        ("HGET", keys.results(token), BIRTH),
        ("HGETALL", keys.waste),
        ("TIME",),
        ("GET", keys.head),
    )


def parse_load(keys: RunKeys, namespace: str, run_id: str, token: str, replies: Sequence[Reply]) -> Loaded:
    """Builds the run from the replies of ``load_commands``.

    Raises:
        CheckpointsLost: a key, or a part of one, is gone.
        CheckpointCorrupt: what stands there is not what this library writes, or is another run's.
        SchemaTooNew: a newer version of this library wrote it.
    """
    lines, meta, results, mark, waste, time, _head = replies
    log = keys.log(token)
    names = (log, keys.meta(token), keys.results(token), keys.results(token), keys.waste)
    for name, reply in zip(names, replies, strict=False):
        if isinstance(reply, Refusal):
            raise corrupt(run_id, name, f"the server answered {reply}")
    with uncollected():
        entries = tuple([parse_entry(run_id, log, i, line) for i, line in enumerate(lines)])
    fields = _strings(run_id, keys.meta(token), meta)
    check_meta(run_id, keys.meta(token), fields)
    _check_birth(run_id, namespace, keys, token, entries, fields, mark)
    if (found := contradiction(entries)) is not None:
        index, why = found
        raise corrupt(run_id, log if index is None else f"{log}[{index}]", why)
    _check_about(run_id, keys.meta(token), entries, fields)
    payloads = [payload.size for entry in entries if (payload := payload_of(entry)) is not None]
    stored = len(payloads)
    if results < stored + 1:
        raise _lost(run_id, f"{keys.results(token)} holds {results - 1} of the {stored} results that the log names")
    if results > stored + 1:  # they are written together: what the log does not name was in it
        raise _lost(run_id, f"{log} names {stored} of the {results - 1} results that are stored")
    pairs = _strings(run_id, keys.waste, waste)
    wasted = tuple(_parse_waste(run_id, keys.waste, entry_id, line) for entry_id, line in pairs.items())
    return Loaded(token, entries, fields, wasted, results, ms_of(time), size_of(lines, payloads, waste))


def parse_meta(run_id: str, key: str, values: Sequence[bytes | None]) -> dict[str, str]:
    """The values of the fields ``META``, checked."""
    pairs = (
        part for name, value in zip(META, values, strict=True) if value is not None for part in (name.encode(), value)
    )
    return parse_fields(run_id, key, tuple(pairs))


def parse_fields(run_id: str, key: str, flat: Sequence[object]) -> dict[str, str]:
    """The fields of ``meta``, checked."""
    fields = _strings(run_id, key, flat)
    check_meta(run_id, key, fields)
    return fields


def check_meta(run_id: str, key: str, fields: Mapping[str, str]) -> None:
    """Looks at what every run has beside its log. A claim asks this before it writes anything.

    Raises:
        CheckpointsLost: there is no birth mark.
        SchemaTooNew: a newer version of this library has worked on the run.
        CheckpointCorrupt: what stands there is not what this library writes.
    """
    if BIRTH not in fields:
        raise _lost(run_id, f"{key} has no birth mark")
    if (missing := next((name for name in META if name not in fields), None)) is not None:
        raise corrupt(run_id, key, f"its {missing} is missing")
    if _COUNT.fullmatch(fields["schema"]) is None:
        raise corrupt(run_id, key, "its schema is no number")
    refuse_newer(run_id, key, fields["schema"].encode())
    if fields["state"] not in _STATES:
        raise corrupt(run_id, key, "its state is none that a run can have")
    if _COUNT.fullmatch(fields["attempt"]) is None and (fields["attempt"] != "0" or fields["state"] in _BEGUN):
        raise corrupt(run_id, key, "its attempt is no number that it can have")
    if (said := trouble_in(fields)) is not None:
        raise corrupt(run_id, key, said)
    if fields["due"] and _TIME.fullmatch(fields["due"]) is None:
        raise corrupt(run_id, key, "its due is no time")


def refuse_newer(run_id: str, key: str, schema: Reply) -> None:
    """Raises ``SchemaTooNew`` if that is what the ``schema`` of a run says; what is no number says nothing."""
    text = schema.decode("ascii", "replace") if isinstance(schema, bytes) else ""
    if _COUNT.fullmatch(text) is not None and int(text) > SCHEMA:
        raise _too_new(run_id, key, int(text))


def parse_entry(run_id: str, key: str, index: int, line: object) -> LogEntry:
    """One line of a log."""
    if not isinstance(line, bytes):
        raise corrupt(run_id, f"{key}[{index}]", f"it is {type(line).__name__}, not bytes")
    try:
        entry: LogEntry = _VALIDATE(line)
    except ValidationError as exc:
        raise _explain(run_id, f"{key}[{index}]", line, exc) from None
    if entry.v > SCHEMA:
        raise _too_new(run_id, f"{key}[{index}]", entry.v)
    return entry


def parse_head(run_id: str, key: str, reply: Reply) -> str | None:
    """The token that the head names; ``None`` if there is no head.

    Raises:
        CheckpointCorrupt: something else stands there.
    """
    if reply is None:
        return None
    text = reply.decode("ascii", "replace") if isinstance(reply, bytes) else ""
    if not is_token(text):
        raise corrupt(run_id, key, "it is no fencing token")
    return text


def corrupt(run_id: str, where: str, why: str) -> CheckpointCorrupt:
    """The error for what is not ours, or no longer readable."""
    return CheckpointCorrupt(
        f"run {run_id!r}: {where} is not what agentcheckpoint writes: {why}. Nothing was overwritten. Look at the "
        "key; if another program uses the prefix 'ac:', give one of them a database of its own.",
        run_id=run_id,
    )


def _explain(run_id: str, where: str, line: bytes, exc: ValidationError) -> StoreError:
    try:
        raw: Any = from_json(line)
    except ValueError:
        return corrupt(run_id, where, "it is not JSON")
    version = cast("dict[str, Any]", raw).get("v") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        return _too_new(run_id, where, version)
    first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    return corrupt(run_id, where, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def _too_new(run_id: str, where: str, version: int) -> SchemaTooNew:
    return SchemaTooNew(
        f"run {run_id!r}: {where} is of schema {version}; this version of agentcheckpoint knows schema "
        f"{SCHEMA} and refuses to write to the run. Upgrade agentcheckpoint-redis here.",
        run_id=run_id,
    )


def _lost(run_id: str, what: str) -> CheckpointsLost:
    return CheckpointsLost(
        f"run {run_id!r}: {what}. The store has lost what it had acknowledged: evicted (maxmemory-policy must be "
        "noeviction), rolled back, or deleted by somebody else. It is not run again on its own, since that would "
        "pay again: restore the data, or delete the run and start it anew.",
        run_id=run_id,
    )


def lost_head(run_id: str, head: str) -> CheckpointsLost:
    """The error for a run whose tokens are there, and whose head is not."""
    return _lost(run_id, f"{head} is missing though the run has existed")


def _check_birth(
    run_id: str,
    namespace: str,
    keys: RunKeys,
    token: str,
    entries: Sequence[LogEntry],
    fields: dict[str, str],
    mark: object,
) -> None:
    birth = entries[0] if entries else None
    if not isinstance(birth, Birth):
        raise _lost(run_id, f"{keys.log(token)} has no birth mark")
    if fields.get(BIRTH) != birth.id:
        raise _lost(run_id, f"{keys.meta(token)} has no birth mark, or another's")
    if not isinstance(mark, bytes) or mark.decode("ascii", "replace") != birth.id:
        raise _lost(run_id, f"{keys.results(token)} has no birth mark, or another's")
    if (birth.namespace, birth.run) != (namespace, run_id):
        raise corrupt(run_id, keys.log(token), f"it belongs to run {birth.run!r} in namespace {birth.namespace!r}")


def _check_about(run_id: str, key: str, entries: Sequence[LogEntry], fields: Mapping[str, str]) -> None:
    """Raises if the log does not say what the run is about as ``meta`` does.

    A new beginning that is gone would bring old records back, and one that never was would pay again for all; under
    another agent's name nobody would go on with the run.
    """
    begun = about(entries)
    for name, field in (("id", "begun"), ("agent", "agent"), ("conversation", "conversation")):
        if fields.get(field) != (getattr(begun, name, None) or ""):
            raise corrupt(run_id, key, f"its {field} is not the one that the log names")


def _strings(run_id: str, key: str, flat: Sequence[object]) -> dict[str, str]:
    try:
        words = [word.decode() for word in flat if isinstance(word, bytes)]
    except UnicodeDecodeError:
        raise corrupt(run_id, key, "it is not UTF-8") from None
    return dict(zip(words[::2], words[1::2], strict=True))


def _parse_waste(run_id: str, key: str, entry_id: str, line: str) -> LedgerEntry:
    where = f"{key}[{entry_id!r}]"
    try:
        entry = LedgerEntry.model_validate_json(line)
    except ValidationError as exc:
        raise _explain(run_id, where, line.encode(), exc) from None
    if not ids.is_slot(entry.slot):
        raise corrupt(run_id, where, "its slot is none that a step can have")
    if entry.id != entry_id:
        raise corrupt(run_id, where, f"it is the entry of another attempt, {entry.id!r}")
    return entry

"""The kept ledger of a deleted run, as it is stored: one hash, without a token in its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError

from agentcheckpoint.core.ids import is_slot
from agentcheckpoint.core.kept import Kept, KeptAttempt, KeptRun
from agentcheckpoint.core.models import SCHEMA
from agentcheckpoint.errors import SchemaTooNew
from agentcheckpoint.store.effects import Command
from agentcheckpoint.store.keys import BIRTH, RunKeys
from agentcheckpoint.store.loading import corrupt

R = TypeVar("R", KeptRun, KeptAttempt)


def kept_commands(keys: RunKeys, kept: Kept | None) -> tuple[Command, ...]:
    """Writes what is kept of a run; ``None``: nothing is."""
    if kept is None:
        return ()
    about: Command = ("HSET", keys.kept, BIRTH, kept.about.model_dump_json(exclude_none=True))
    return about, *attempt_commands(keys, kept.attempts)


def attempt_commands(keys: RunKeys, attempts: Mapping[str, KeptAttempt]) -> tuple[Command, ...]:
    """Writes these attempts."""
    return tuple(
        ("HSET", keys.kept, entry_id, attempt.model_dump_json(exclude_none=True))
        for entry_id, attempt in attempts.items()
    )


def parse_about(keys: RunKeys, run_id: str, line: bytes | None) -> KeptRun:
    """Whose ledger it is. Raises ``CheckpointCorrupt``, ``SchemaTooNew``."""
    return _parse(run_id, keys.kept, KeptRun, line or b"")


def parse_kept(keys: RunKeys, namespace: str, run_id: str, flat: Sequence[bytes]) -> Kept | None:
    """What is kept of a run, from the reply to ``HGETALL``; ``None``: nothing.

    Raises:
        CheckpointCorrupt, SchemaTooNew.
    """
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    if not fields:
        return None
    about = parse_about(keys, run_id, fields.pop(BIRTH.encode(), None))
    if (about.namespace, about.run) != (namespace, run_id):
        raise corrupt(run_id, keys.kept, f"it belongs to run {about.run!r} in namespace {about.namespace!r}")
    attempts: dict[str, KeptAttempt] = {}
    for name, line in fields.items():
        attempt = _parse(run_id, f"{keys.kept}[{name!r}]", KeptAttempt, line)
        if attempt.entry.id.encode() != name or not is_slot(attempt.entry.slot):
            raise corrupt(run_id, f"{keys.kept}[{name!r}]", "it is the entry of another attempt, or of no step")
        attempts[attempt.entry.id] = attempt
    return Kept(about, attempts)


def _parse(run_id: str, where: str, kind: type[R], line: bytes) -> R:
    try:
        record = kind.model_validate_json(line)
    except ValidationError:
        raise corrupt(run_id, where, f"it is no {kind.__name__}") from None
    if record.v > SCHEMA:
        raise SchemaTooNew(
            f"run {run_id!r}: {where} is of schema {record.v}; this version of agentcheckpoint knows schema {SCHEMA}. "
            "Upgrade agentcheckpoint-redis here.",
            run_id=run_id,
        )
    return record

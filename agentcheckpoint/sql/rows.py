"""The table of steps that users' own transactions record: its SQL, and a row as a record. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agentcheckpoint.core.models import Done, line_of
from agentcheckpoint.errors import CheckpointCorrupt

CREATE_TABLE = """CREATE TABLE IF NOT EXISTS agentcheckpoint_steps (
  namespace VARCHAR(32) NOT NULL,
  run VARCHAR(512) NOT NULL,
  begun VARCHAR(64) NOT NULL,
  slot TEXT NOT NULL,
  record TEXT NOT NULL,
  result BYTEA NOT NULL,
  token VARCHAR(96) NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (namespace, run, begun, slot)
)"""
"""For migrations of your own. The primary key is what makes the work of two workers happen once."""

_KEY = "namespace = :namespace AND run = :run AND begun = :begun AND slot = :slot"
FIND = f"SELECT record, result FROM agentcheckpoint_steps WHERE {_KEY}"
FORGET = f"DELETE FROM agentcheckpoint_steps WHERE {_KEY}"
RECORD = (
    "INSERT INTO agentcheckpoint_steps (namespace, run, begun, slot, record, result, token, at) "
    "VALUES (:namespace, :run, :begun, :slot, :record, :result, :token, :at)"
)
PRUNE = (
    "DELETE FROM agentcheckpoint_steps WHERE NOT EXISTS (SELECT 1 FROM agentcheckpoint_steps AS later "
    "WHERE later.namespace = agentcheckpoint_steps.namespace AND later.run = agentcheckpoint_steps.run "
    "AND later.at >= :before)"
)
"""Rows of one run go together: its newest one says how old it is."""

_DONE = TypeAdapter(Done)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step's row stands: a run that was begun afresh, or made again, has other rows."""

    namespace: str
    run: str
    begun: str
    slot: str

    def values(self) -> dict[str, Any]:
        return {"namespace": self.namespace, "run": self.run, "begun": self.begun, "slot": self.slot}

    def row(self, done: Done, result: bytes, token: str) -> dict[str, Any]:
        """The values of a new row."""
        record = line_of(done)
        return self.values() | {"record": record, "result": result, "token": token, "at": done.at}


def parse_row(place: Place, rows: Sequence[Sequence[Any]]) -> tuple[Done, bytes] | None:
    """The record and its result, if there is a row.

    Raises:
        CheckpointCorrupt: it is not what this library writes.
    """
    if not rows:
        return None
    record, result = rows[0]
    try:
        return _DONE.validate_json(record), bytes(result)
    except (ValidationError, TypeError) as exc:
        raise CheckpointCorrupt(
            f"run {place.run!r}, step {place.slot!r}: its row in agentcheckpoint_steps cannot be read: {exc}",
            run_id=place.run,
            step=place.slot,
        ) from exc

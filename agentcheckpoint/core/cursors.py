"""How far a step has come that is not done: the stored form of its cursor, and the cursors of a run. Pure.

A cursor is a field of the run's ``meta``, ``cursor:<slot>``: the latest position, and no history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import ValidationError

from agentcheckpoint.core import ids
from agentcheckpoint.core.models import Done, Logged, Natural, Record, Rewound

FIELD = "cursor:"
"""What the names of such fields begin with; the slot follows."""
MAX_CURSOR = 65_536
"""Bytes that a cursor's value may take: all of them are loaded with the run."""

CursorKind: TypeAlias = Literal["value", "ordered"]


class Position(Record):
    """A step's cursor, as it is stored."""

    begun: str
    """The id of the log entry with which the run was begun, or last begun afresh: under another one it is stale."""
    digest: str
    """The fingerprint of the step's inputs."""
    kind: CursorKind = "value"
    at: Natural
    """When it was set, milliseconds since the epoch on the store's clock."""
    value: str
    """The value, as JSON."""


class Passed(Record):
    """How far an ordered loop has come: the last item whose body ended."""

    done: Natural
    """How many items have passed, this one among them."""
    key: str | None = None
    """Its key, if it has one of its own."""
    seen: str | None = None
    """The digest of the item, where it has no key, and is a short text or a number."""


def cursor_field(slot: str) -> str:
    """The name of the field of a step's cursor."""
    return FIELD + slot


def parse_cursor(name: str, text: str) -> Position:
    """Reads a stored cursor.

    Raises:
        ValueError: the field's name holds no slot, or its text is none that this library writes.
    """
    if not ids.is_slot(name.removeprefix(FIELD)):
        raise ValueError("its slot is none that a step can have")
    try:
        position = Position.model_validate_json(text)
        json.loads(position.value)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise ValueError("its value is not JSON") from None
    if len(position.value) > MAX_CURSOR:
        raise ValueError(f"its value has more than {MAX_CURSOR:,} characters")
    return position


def trouble_in(fields: Mapping[str, str]) -> str | None:
    """What is wrong with the cursors among these fields; ``None``: nothing."""
    for name in (name for name in fields if name.startswith(FIELD)):
        try:
            parse_cursor(name, fields[name])
        except ValueError as exc:
            return f"its {name!r}: {exc}"
    return None


def positions_in(fields: Mapping[str, str], begun: str) -> dict[str, Position]:
    """The cursors that count, by slot.

    Args:
        fields: the run's ``meta``, checked.
        begun: the id with which the run was begun, or last begun afresh.
    """
    found = {n.removeprefix(FIELD): parse_cursor(n, text) for n, text in fields.items() if n.startswith(FIELD)}
    return {slot: position for slot, position in found.items() if position.begun == begun}


class Cursors:
    """The cursors that an attempt knows to be stored.

    Args:
        fields: the run's ``meta``, checked.
        begun: the id with which the run was begun, or last begun afresh.
    """

    def __init__(self, fields: Mapping[str, str], begun: str) -> None:
        self.positions = positions_in(fields, begun)
        self.taken: dict[str, object] = {}
        """By slot, the execution that has asked for its step's cursor."""
        stored = {name.removeprefix(FIELD) for name in fields if name.startswith(FIELD)}
        self._stale = tuple(map(cursor_field, sorted(stored - self.positions.keys())))

    def ended_by(self, entry: Logged) -> tuple[str, ...]:
        """The fields that go with this entry: those of a step that is done and of what lies in it, and stale ones.

        A run that goes back goes on with no loop in the middle.
        """
        if isinstance(entry, Rewound):
            return (*map(cursor_field, list(self.positions)), *self._stale)
        if not isinstance(entry, Done):
            return self._stale
        ended = [slot for slot in list(self.positions) if slot == entry.slot or ids.is_inside(slot, {entry.slot})]
        return (*map(cursor_field, ended), *self._stale)

    def stored(self, slot: str, position: Position) -> None:
        """This cursor stands there now."""
        self.positions[slot] = position
        self._stale = tuple(name for name in self._stale if name != cursor_field(slot))

    def dropped(self, names: tuple[str, ...]) -> None:
        """These fields are gone."""
        for name in names:
            self.positions.pop(name.removeprefix(FIELD), None)
        self._stale = tuple(name for name in self._stale if name not in names)

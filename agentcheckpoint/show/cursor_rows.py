"""The steps of a run that are under way, and how far each has come, as text of bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from agentcheckpoint.core.cursors import CursorKind, Marked, Passed, Position, positions_in
from agentcheckpoint.show.layout import plain

_LONGEST = 200
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class CursorRow:
    """A step that has a cursor: it is not done.

    Attributes:
        slot: the step's slot; as stored, not escaped.
        kind: ``value``: the step sets it itself; ``ordered``, ``unordered``: of a loop over items.
        value: the latest value as JSON, the first 200 characters; of a loop: how many items have passed.
        at: when it was set, milliseconds since the epoch on the store's clock.
    """

    slot: str
    kind: CursorKind
    value: str
    at: int

    def __str__(self) -> str:
        return f"in progress: {plain(self.slot)} at {plain(self.value)}"


def cursor_rows(fields: Mapping[str, str], begun: str) -> list[CursorRow]:
    """The cursors that count, the one that was set last first.

    Args:
        fields: the run's ``meta``, checked.
        begun: the id with which the run was begun, or last begun afresh.
    """
    rows = [CursorRow(slot, at.kind, _text(at), at.at) for slot, at in positions_in(fields, begun).items()]
    return sorted(rows, key=lambda row: (-row.at, row.slot))


def _text(position: Position) -> str:
    if position.kind == "value":
        return position.value if len(position.value) <= _LONGEST else f"{position.value[: _LONGEST - 1]}…"
    try:
        kind = Passed if position.kind == "ordered" else Marked
        return f"{kind.model_validate_json(position.value).done:,} done"
    except ValidationError:  # the loop itself says so when it is gone on with
        return "?"

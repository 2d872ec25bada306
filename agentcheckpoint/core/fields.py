"""Reading of foreign answers: members of mappings and objects alike, and counts that are surely counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from agentcheckpoint.core.models import MOST

_LONGEST_NAME = 256


class Unreadable(Exception):
    """What was sent is missing, malformed, or contradicts itself."""


def field(source: object, *names: str) -> object:
    """The first of the names that has a value, in a mapping or an object."""
    for name in names:
        if isinstance(source, Mapping):
            value = cast(Mapping[str, object], source).get(name)
        else:
            value = cast(object, getattr(source, name, None))
        if value is not None:
            return value
    return None


def has(source: object, *names: str) -> bool:
    """Whether it has a member of one of these names, whatever its value."""
    return any(name in source if isinstance(source, Mapping) else hasattr(source, name) for name in names)


def count(source: object, *names: str, required: bool = False) -> int:
    """A count; 0 if it is missing and not required. Raises ``Unreadable`` for all that is no count."""
    value = field(source, *names)
    if value is None and not required:
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST:
        return value
    raise Unreadable


def details(source: object, *names: str) -> object:
    """A member with members of its own, or ``None``."""
    value = field(source, *names)
    if isinstance(value, str | bytes | int | float | Sequence):
        raise Unreadable
    return value


def items(source: object, *names: str) -> Sequence[object]:
    """A list; empty if it is missing."""
    value = field(source, *names)
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise Unreadable
    return cast(Sequence[object], value)


def name_of(value: object) -> str | None:
    """Return the value if it can be a model's, a tier's or a response's name; a provider may send anything."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME else None

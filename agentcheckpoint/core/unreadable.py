"""Why a recorded result cannot be read as today's type, and the ways out."""

from __future__ import annotations

from pydantic import ValidationError

from agentcheckpoint.core.roundtrip import first_error, told
from agentcheckpoint.errors import CheckpointCorrupt

_KINDS = {"dict": "an object", "list": "a list", "str": "a text", "int": "a whole number", "float": "a number"}


def unreadable(type_name: str, trouble: Exception | str) -> CheckpointCorrupt:
    """The error for a record that cannot be read as this type; it quotes no value."""
    why = _told(trouble) if isinstance(trouble, Exception) else trouble
    return CheckpointCorrupt(
        f"a recorded result cannot be read as {type_name}: {why}. Either the type has changed since it was recorded, "
        "or the record is corrupt. Let the type accept what was recorded (a default for a new field), or choose: "
        "Step(migrate=function) makes what fits of what is recorded; Step(version=...) runs the step again, and pays "
        "again; Step(returns=type) reads it as the type that it was."
    )


def _told(trouble: Exception) -> str:
    if not isinstance(trouble, ValidationError):  # a user's validator may raise anything
        return told(trouble)
    path, why = first_error(trouble)
    kind = type(trouble.errors(include_url=False, include_context=False)[0]["input"]).__name__
    return f"at ${path}: {why}; recorded is {_KINDS.get(kind, kind)}"

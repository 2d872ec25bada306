"""Whether a record still answers a call: its inputs, its version and its age. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from agentcheckpoint.core.calls import Call
from agentcheckpoint.errors import RunMisuse

Answer: TypeAlias = Literal["replay", "run", "refuse"]
"""What to do with a call: give it the record, execute it, or raise."""
LONGEST_VERSION = 100
"""Characters that a step's version may have."""


def version_text(step: str, version: object) -> str | None:
    """A step's version, as it is recorded. Raises ``RunMisuse`` if it is none."""
    if version is None:
        return None
    text = str(version)
    if isinstance(version, bool) or not isinstance(version, str | int) or not 0 < len(text) <= LONGEST_VERSION:
        raise RunMisuse(f"step {step!r}: version={version!r}: it is a number, or a text of 1 to {LONGEST_VERSION}.")
    if not text.isprintable():
        raise RunMisuse(f"step {step!r}: version={version!r}: it has characters that cannot be shown.")
    return text


def answer(call: Call, on_version: str, on_inputs: str, oldest: int | None) -> Answer:
    """What to do with a call. One that is to run is told what it replaces: ``mismatch``, or ``stale``.

    Args:
        call: with the record that stands in its slot.
        on_version: what to do with a record of another version: ``"error"``, ``"rerun"`` or ``"reuse"``. What came
            of other inputs then does not matter: it is out of date anyhow.
        on_inputs: what to do with a record of other inputs.
        oldest: a record that was made before is stale, milliseconds since the epoch; ``None``: none is.
    """
    record = call.found or call.mismatch
    if record is None:
        return "run"
    is_other_version = record.version != call.version and on_version != "reuse"
    policy = on_version if is_other_version else on_inputs if call.found is None else "reuse"
    if policy == "error":
        return "refuse"
    if policy == "rerun":
        call.found, call.mismatch = None, record
        return "run"
    if oldest is not None and record.at < oldest:
        call.found, call.mismatch, call.stale = None, None, record
        return "run"
    return "replay"

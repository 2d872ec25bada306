"""What a recorded run and its replay have in common, and the diff where they part. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping

from agentcheckpoint.core import ids
from agentcheckpoint.core.fingerprint import difference
from agentcheckpoint.core.journal import Call
from agentcheckpoint.core.lifecycle import since_restart
from agentcheckpoint.core.models import Done, Inputs, LogEntry
from agentcheckpoint.core.standing import standing

ABSENT = "—"


class Drift:
    """Compares step by step what is recorded with what is called now.

    Args:
        entries: the log of the recorded run.
        output: its output, as it is stored.
    """

    def __init__(self, entries: Iterable[LogEntry], output: bytes | None) -> None:
        records = standing(since_restart(entries))
        slots = {done.slot for done in records}
        self.stopped = False
        """Something came that is not recorded: what would have followed is unknown."""
        self._records = [done for done in records if not ids.is_inside(done.slot, slots)]
        """Those that a replay asks for: what lies inside of them is not called any more."""
        self._place = {done.id: n for n, done in enumerate(self._records)}
        self._old: dict[int, list[str]] = {n: _block(done.slot, done.inputs) for n, done in enumerate(self._records)}
        self._new: list[tuple[int, list[str]]] = []
        self._met: set[int] = set()
        self._last = -1
        self._outputs = (output, output)

    def met(self, call: Call, answered: Done | None) -> bool:
        """A call, and the record that would answer it. Returns whether it is the one that is recorded."""
        record = answered or call.mismatch or call.stale
        place = None if record is None else self._place.get(record.id)
        same = answered is not None and answered.inputs.digest == call.inputs.digest
        if record is None or place is None:
            if not same:
                self._new.append((self._last, _block(call.slot, call.inputs)))
        else:
            old, new = _compared(record, call, replayed=answered is not None)
            self._old[place], self._last = old, place
            self._new.append((place, new))
            self._met.add(place)
        self.stopped = self.stopped or not same
        return same

    def other_run(self, run_id: str, call: Call) -> bool:
        """A call of a step of another run, which cannot be recorded."""
        self._new.append((self._last, _block(f"{call.slot} of run {run_id!r}", call.inputs)))
        self.stopped = True
        return False

    def ended(self, output: bytes | None) -> None:
        """The replay has come to its end, with that output."""
        self._outputs = (self._outputs[0], output)

    def diff(self, name: str) -> str | None:
        """The unified diff; ``None``: there is none. Of a replay that was stopped, what it came to."""
        old = [line for n, block in self._old.items() if n in self._met or not self.stopped for line in block]
        new = [line for _, block in sorted(self._new, key=lambda placed: placed[0]) for line in block]
        if not self.stopped:
            old += _output_lines(self._outputs[0])
            new += _output_lines(self._outputs[1])
        lines = list(difflib.unified_diff(old, new, name, "as it is called now", lineterm=""))
        return "\n".join(lines) if lines else None


def _compared(record: Done, call: Call, *, replayed: bool) -> tuple[list[str], list[str]]:
    """The two sides of a step, line by line alike where they are the same. A version counts if nothing bridges it."""
    rows = difference(record.inputs, call.inputs)
    old = _block(record.slot, record.inputs, {name: was for name, was, _ in rows})
    new = _block(record.slot, call.inputs, {name: now for name, _, now in rows})
    if record.inputs.digest != call.inputs.digest and not rows:
        old.append(f"  inputs: {record.inputs.digest}")
        new.append(f"  inputs: {call.inputs.digest}")
    if not replayed and record.version != call.version:
        old.append(f"  version: {record.version or ABSENT}")
        new.append(f"  version: {call.version or ABSENT}")
    if not replayed and old == new:
        new.append("  its record does not count any more: it would be executed again")
    return old, new


def _block(slot: str, inputs: Inputs, shown: Mapping[str, str] | None = None) -> list[str]:
    shown = shown or {}
    return [f"step {slot}", *(f"  {each.name}: {shown.get(each.name, each.preview)}" for each in inputs.arguments)]


def _output_lines(data: bytes | None) -> list[str]:
    if data is None:
        return []
    try:
        text = json.dumps(json.loads(data), indent=2, ensure_ascii=False)
    except ValueError:
        text = data.decode("utf-8", "replace")
    return ["output", *(f"  {line}" for line in text.splitlines())]

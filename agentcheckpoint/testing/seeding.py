"""Seeds a run: its agent runs up to a point, with results that the test gives instead of calling its steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from agentcheckpoint import attempt
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.ids import is_inside
from agentcheckpoint.core.models import Intent
from agentcheckpoint.cursors import Cursor
from agentcheckpoint.errors import Interrupted
from agentcheckpoint.store.commit import Change


@contextmanager
def seed_run(after: Mapping[str, Any] | None = None, *, cursors: Mapping[str, Any] | None = None) -> Generator[None]:
    """The agent that is run inside gets these results, and ends before the first step that has none: seeded.

    Its steps are recorded as in any attempt: with the inputs that they are called with, and in their types. The next
    attempt replays them. Only functions are replaced: what a wrapped client asks is scripted at the provider.

    Args:
        after: results by slots, such as ``{"plan": Plan(...), "fetch[u1]": "..."}``.
        cursors: the value of an ``ac.Cursor`` by the slot of its step, such as ``{"index": 250}``: the attempt ends in
            that step, and the next one finds the cursor there. The position of a ``run.cursor`` follows from its items,
            and cannot be given.

    Raises:
        AssertionError: the agent did not call all of these steps, or ended by itself.
        ResultNotStorable: a result is not of its step's type.
    """
    results, positions = after or {}, cursors or {}
    open_slots = {**results, **positions}

    def put(_: Attempt, slot: str, function: Callable[[], Any]) -> Callable[[], Any]:
        if slot in results:
            return lambda: open_slots.pop(slot, results[slot])
        if slot in positions:
            return lambda: _stop_at(slot, open_slots.pop(slot))
        _end(slot)
        return function

    def sent(_: Attempt, change: Change) -> None:
        if isinstance(change.entry, Intent):
            _end(change.entry.slot)

    def _end(slot: str) -> None:
        seeded = {*results, *positions}
        if slot not in seeded and not any(is_inside(each, {slot}) for each in seeded):
            raise Interrupted(f"the run is seeded: step {slot!r} is the first that is not")

    attempt.before_call.append(put)
    attempt.before_commit.append(sent)
    try:
        yield
    except Interrupted:
        if open_slots:
            raise AssertionError(f"seeded, but not called before the first step that is not: {[*open_slots]}") from None
        return
    finally:
        attempt.before_call.remove(put)
        attempt.before_commit.remove(sent)
    raise AssertionError("the code inside ended by itself: it called no step that is not seeded")


def _stop_at(slot: str, value: object) -> None:
    """The body of a step that has come to this position, and no further."""
    Cursor(type(value), start=value).set(value)
    raise Interrupted(f"the run is seeded: step {slot!r} stands at its cursor")

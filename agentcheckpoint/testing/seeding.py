"""Seeds a run: its agent runs up to a point, with results that the test gives instead of calling its steps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from agentcheckpoint import attempt
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.ids import is_inside
from agentcheckpoint.core.models import Intent
from agentcheckpoint.errors import Interrupted
from agentcheckpoint.store.commit import Change


@contextmanager
def seed_run(after: Mapping[str, Any]) -> Generator[None]:
    """The agent that is run inside gets these results, and ends before the first step that has none: seeded.

    Its steps are recorded as in any attempt: with the inputs that they are called with, and in their types. The next
    attempt replays them. Only functions are replaced: what a wrapped client asks is scripted at the provider.

    Args:
        after: results by slots, such as ``{"plan": Plan(...), "fetch[u1]": "..."}``.

    Raises:
        AssertionError: the agent did not call all of these steps, or ended by itself.
        ResultNotStorable: a result is not of its step's type.
    """
    open_slots = dict(after)

    def put(_: Attempt, slot: str, function: Callable[[], Any]) -> Callable[[], Any]:
        if slot in after:
            return lambda: open_slots.pop(slot, after[slot])
        _end(slot)
        return function

    def sent(_: Attempt, change: Change) -> None:
        if isinstance(change.entry, Intent):
            _end(change.entry.slot)

    def _end(slot: str) -> None:
        around = any(is_inside(seeded, {slot}) for seeded in after)
        if slot not in after and not around:
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

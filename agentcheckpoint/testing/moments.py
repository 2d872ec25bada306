"""The moments of an attempt that a test can name: before a step's function is called, before and after a commit."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentcheckpoint import attempt
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.store.commit import Change

When: TypeAlias = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Moment:
    """Where an attempt is.

    Attributes:
        when: before or after what happens.
        what: ``"call"``, that of a step's function; else the kind of the log entry that is committed: ``"intent"``
            before something is paid, ``"done"``, ``"failed"``, ``"closed"`` at the attempt's end.
        slot: of which step; empty: the run itself.
    """

    when: When
    what: str
    slot: str

    def is_of(self, step: str) -> bool:
        """Whether it is a moment of this step: its slot, or its name, which is that of the first of its calls."""
        return self.slot == step or self.slot.startswith(f"{step}[")


Observe: TypeAlias = Callable[[Attempt, Moment], None]


@contextmanager
def observed(observe: Observe) -> Generator[None]:
    """Inside, each moment of each attempt of this process is shown; what is raised there is raised in the attempt."""

    def call(live: Attempt, slot: str, function: Callable[[], Any]) -> Callable[[], Any]:
        observe(live, Moment("before", "call", slot))
        return function

    def sent(live: Attempt, change: Change) -> None:
        observe(live, _moment("before", change))

    def applied(live: Attempt, change: Change) -> None:
        observe(live, _moment("after", change))

    hooks = ((attempt.before_call, call), (attempt.before_commit, sent), (attempt.after_commit, applied))
    for hook, each in hooks:
        hook.append(each)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for hook, each in hooks:
            hook.remove(each)  # type: ignore[arg-type]


def _moment(when: When, change: Change) -> Moment:
    return Moment(when, str(getattr(change.entry, "k", "")), getattr(change.entry, "slot", ""))

"""The calls of steps that an attempt makes, and the executions that they are part of. Pure."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from agentcheckpoint.core.models import Done, Inputs


@dataclass(eq=False, slots=True)
class Scope:
    """One execution of a step (or of the run itself), in which names are counted from one."""

    slot: str = ""
    groups: dict[str, Group] = field(default_factory=dict["str", "Group"])
    encloses: bool = False
    """A step was called in it."""
    retried: bool = False
    """The step, or one that it lies inside of, is tried again by a policy of its own."""
    outer: Scope | None = None
    """The execution that it is part of."""
    digest: str = ""
    """The fingerprint of the step's inputs."""
    over: BaseException | None = None
    """Why it was given up while it had not ended: it may go on in its thread, and nothing of it is recorded."""
    sealed: str = ""
    """Why no step may be called in it; empty: one may."""

    def given_up(self) -> BaseException | None:
        """Why it, or what it is part of, was given up."""
        scope: Scope | None = self
        while scope is not None and scope.over is None:
            scope = scope.outer
        return None if scope is None else scope.over

    def is_in(self, other: Scope) -> bool:
        """Whether it is that execution, or part of it."""
        scope: Scope | None = self
        while scope is not None and scope is not other:
            scope = scope.outer
        return scope is not None


@dataclass(eq=False, slots=True)
class Call:
    """One call of a step, from the moment it is made.

    Attributes:
        slot: where it is, or will be, recorded.
        found: the record to replay; ``None``: execute.
        version: of the step, by its author.
        mismatch: the record that stands in the slot and does not answer the call: of other inputs, or of another
            version; then ``found`` is ``None``.
        stale: the record that stands in the slot and is too old.
        overlap: a sibling of the same name is or was open meanwhile.
        group: the calls of its name in its scope; ``None``: it has a key, and ``start`` says what is recorded.
        ordinal: which of the group's it is.
        over: it was answered, or given up.
        ended: done when it is over; made by ``Journal.end_of`` once somebody waits for it.
    """

    slot: str
    inputs: Inputs
    found: Done | None = None
    version: str | None = None
    mismatch: Done | None = None
    stale: Done | None = None
    overlap: bool = False
    group: Group | None = None
    ordinal: int = 1
    over: bool = False
    ended: Future[None] | None = None


@dataclass(eq=False, slots=True)
class Group:
    """The calls of one name in one scope: the ordinals that are recorded, and those taken by this attempt."""

    base: str
    unmet: dict[str, list[int]]
    """Ordinals that are recorded and not taken, by inputs; each list is a heap."""
    highest: int
    """The highest that is recorded or taken."""
    taken: set[int] = field(default_factory=set[int])
    again: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Ordinals whose call ended without an answer, by inputs: the same call made again is their next attempt."""
    lowest: int = 1
    """No ordinal below is free."""
    open: set[Call] = field(default_factory=set[Call])

    def take(self, ordinal: int) -> int:
        self.taken.add(ordinal)
        self.highest = max(self.highest, ordinal)
        while self.lowest in self.taken:
            self.lowest += 1
        return ordinal

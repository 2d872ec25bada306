"""What one commit carries, and what can come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from agentcheckpoint.core.models import Done, LogEntry, Logged, line_of
from agentcheckpoint.store.effects import Command, Line, Refusal, Reply, executed
from agentcheckpoint.store.marks import Marks


class Outdated(Exception):
    """What a transaction rests on has changed, or may have: nothing of it was applied, and it never will be."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A user's own commands, to be applied with a change.

    Attributes:
        commands: in their order.
        line: the connection that watches the head, and the keys that were read.
        token: the head that it watches.
        refused: filled in: the commands that the server refused inside the EXEC that applied all others.
    """

    commands: tuple[Command, ...]
    line: Line
    token: str
    refused: list[tuple[Command, Refusal]] = field(default_factory=list[tuple[Command, Refusal]])

    def take_out(self, replies: Sequence[Reply]) -> Sequence[Reply]:
        """The replies to a packet without those to these commands; refusals among these are noted."""
        inside = executed(replies)
        if inside is None:
            return replies
        first = len(inside) - 2 - len(self.commands)
        told = zip(self.commands, inside[first:-2], strict=True)
        self.refused.extend((command, reply) for command, reply in told if isinstance(reply, Refusal))
        return (*replies[:-1], [*inside[:first], *inside[-2:]])


@dataclass(slots=True)
class Change:
    """What one commit carries: one log entry, its result if it has one, what the totals grow by, new fields.

    It is filled in until it is sent.
    """

    entry: Logged
    result: bytes | None = None
    totals: Mapping[str, int] = field(default_factory=dict[str, int])
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    release: bool = False
    """Give the lease back instead of renewing it."""
    drop: tuple[str, ...] = ()
    """The fields that are to go."""
    unmark: tuple[str, ...] = ()
    """The slots of unordered loops whose marks are to go."""
    unlogged: bool = False
    """The entry names it in this process only: what is stored are its fields, as the latest of their kind."""
    stands: bool = False
    """An unlogged one's field is known to stand there already, with what was stored before."""
    marks: Marks | None = None
    """Items of an unordered loop that an unlogged one marks."""
    beside: Beside | None = None
    """A user's transaction, of which this is a part."""

    def line(self) -> str:
        """The entry as it is stored; an unlogged one is not."""
        return "" if self.unlogged else line_of(cast(LogEntry, self.entry))


@dataclass(frozen=True, slots=True)
class Committed:
    """The change is stored, and was applied once."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The run is an heir's now, and the heir has recorded this very step: here is his record and its result."""

    entry: Done
    result: bytes

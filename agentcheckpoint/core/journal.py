"""Replay or execute? The replay state of one attempt: which recorded steps it has met, and which calls are open.

Nothing here does I/O or calls the user's function: a face asks, acts, and reports back.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from agentcheckpoint.core import ids
from agentcheckpoint.core.models import Done, Failed, Inputs, LogEntry, Rejected


@dataclass(eq=False, slots=True)
class Scope:
    """One execution of a step (or of the run itself), in which names are counted from one."""

    slot: str = ""
    groups: dict[str, _Group] = field(default_factory=dict["str", "_Group"])


@dataclass(eq=False, slots=True)
class Call:
    """One call of a step, from the moment it is made.

    Attributes:
        slot: where it is, or will be, recorded.
        found: the record to replay; ``None``: execute.
        mismatch: the record that stands in the slot with other inputs; then ``found`` is ``None``.
        joins: the call of the same key that is under way; wait for ``joins.ended`` and call again.
        overlap: a sibling of the same name is or was open meanwhile.
    """

    slot: str
    inputs: Inputs
    found: Done | None = None
    mismatch: Done | None = None
    joins: Call | None = None
    overlap: bool = False
    group: _Group | None = None
    ended: Future[None] = field(default_factory=Future["None"])


@dataclass(eq=False, slots=True)
class _Group:
    """The calls of one name in one scope: the ordinals that are recorded, and those taken by this attempt."""

    recorded: dict[int, Done]
    by_inputs: dict[str, deque[int]]
    taken: set[int] = field(default_factory=set[int])
    again: dict[str, deque[int]] = field(default_factory=dict[str, deque[int]])
    """Ordinals whose call failed or was rejected, by inputs: the same call made again is their next attempt."""
    lowest: int = 1
    """No ordinal below is free."""
    highest: int = 0
    """The highest that is recorded or taken."""
    open: set[Call] = field(default_factory=set[Call])

    def take(self, ordinal: int) -> None:
        self.taken.add(ordinal)
        self.highest = max(self.highest, ordinal)
        while self.lowest in self.taken:
            self.lowest += 1


class Journal:
    """What this attempt knows of the run's steps.

    Args:
        entries: the run's log, in order.
    """

    def __init__(self, entries: Iterable[LogEntry]) -> None:
        self.records: dict[str, Done] = {}
        self.attempts: dict[str, int] = defaultdict(int)
        self._ordinals: dict[str, dict[int, Done]] = defaultdict(dict)
        self._met: set[str] = set()
        self._keyed: dict[str, Call] = {}
        for entry in entries:
            if isinstance(entry, Done):
                self.attempts[entry.slot] += 1
                self._put(entry)
            elif isinstance(entry, Failed):
                self.attempts[entry.slot] += 1
            elif isinstance(entry, Rejected):
                self.reject(entry.slot, entry.target)

    # -- asking ---------------------------------------------------------------------------------------------------

    def call(self, scope: Scope, name: str, key: str | None, inputs: Inputs) -> Call:
        """Takes the slot of a call that is being made now, and says what to do about it."""
        if key is not None:
            return self._call_keyed(ids.slot(scope.slot, name, key=key), inputs)
        group = scope.groups.get(name)
        if group is None:
            group = scope.groups[name] = self._group(ids.slot(scope.slot, name))
        call = self._choose(scope, name, group, inputs)
        call.group = group
        if group.open:
            call.overlap = True
            for sibling in group.open:
                sibling.overlap = True
        group.open.add(call)
        return call

    def _choose(self, scope: Scope, name: str, group: _Group, inputs: Inputs) -> Call:
        equal = group.by_inputs.get(inputs.digest)
        while equal:  # the n-th recorded sibling of equal inputs: parallel calls may come in another order
            ordinal = equal.popleft()
            if ordinal not in group.taken:
                group.take(ordinal)
                found = group.recorded[ordinal]
                return Call(found.slot, inputs, found=found)
        if again := group.again.get(inputs.digest):
            return Call(ids.slot(scope.slot, name, ordinal=again.popleft()), inputs)
        ordinal = group.lowest
        standing = group.recorded.get(ordinal)
        if standing is not None and standing.overlap:  # made beside its siblings: its number says nothing
            ordinal, standing = group.highest + 1, None
        group.take(ordinal)
        return Call(ids.slot(scope.slot, name, ordinal=ordinal), inputs, mismatch=standing)

    def _call_keyed(self, slot: str, inputs: Inputs) -> Call:
        under_way = self._keyed.get(slot)
        if under_way is not None:
            return Call(slot, inputs, joins=under_way)
        found = self.records.get(slot)
        same = found is not None and found.inputs.digest == inputs.digest
        call = Call(slot, inputs, found=found if same else None, mismatch=None if same else found)
        self._keyed[slot] = call
        return call

    def _group(self, base: str) -> _Group:
        recorded = dict(self._ordinals.get(base, {}))
        by_inputs: dict[str, deque[int]] = defaultdict(deque)
        for ordinal in sorted(recorded):
            by_inputs[recorded[ordinal].inputs.digest].append(ordinal)
        return _Group(recorded, by_inputs, highest=max(recorded, default=0))

    # -- reporting ------------------------------------------------------------------------------------------------

    def record(self, call: Call, done: Done) -> None:
        """The call's checkpoint is stored."""
        self.attempts[done.slot] += 1
        self._put(done)
        self._met.add(done.slot)
        self.end(call)

    def replayed(self, call: Call) -> None:
        """The call was answered from its record."""
        self._met.add(call.slot)
        self.end(call)

    def failed(self, call: Call) -> None:
        """The call raised; its slot has no record."""
        self.attempts[call.slot] += 1
        self.reopen(call)
        self.end(call)

    def reopen(self, call: Call) -> None:
        """The slot is free for the same call to be made again: it failed, or its answer was refused."""
        if call.group is not None:
            call.group.again.setdefault(call.inputs.digest, deque()).append(_split(call.slot)[1])

    def end(self, call: Call) -> None:
        """The call is over, whatever came of it."""
        if call.group is not None:
            call.group.open.discard(call)
        if self._keyed.get(call.slot) is call:
            del self._keyed[call.slot]
        if not call.ended.done():
            call.ended.set_result(None)

    def reject(self, slot: str, target: str) -> None:
        """A recorded answer was refused: the slot has no record any more."""
        done = self.records.get(slot)
        if done is not None and done.id == target:
            del self.records[slot]
            base, ordinal = _split(slot)
            self._ordinals[base].pop(ordinal, None)

    def unmet(self) -> list[Done]:
        """Recorded steps that this attempt has not met, and that do not lie inside one that it has."""
        return [done for slot, done in self.records.items() if slot not in self._met and not self._inside_met(slot)]

    def _inside_met(self, slot: str) -> bool:
        return any(slot[:i] in self._met for i, char in enumerate(slot) if char == "/")

    def _put(self, done: Done) -> None:
        self.records[done.slot] = done
        base, ordinal = _split(done.slot)
        self._ordinals[base][ordinal] = done


def _split(slot: str) -> tuple[str, int]:
    """A slot's name in its scope, and its ordinal; a keyed slot stands alone."""
    base, _, ordinal = slot.rpartition("#")
    if not slot.endswith("]") and ordinal.isascii() and ordinal.isdigit():
        return base, int(ordinal)
    return slot, 1

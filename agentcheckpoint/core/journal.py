"""Replay or execute? The replay state of one attempt: which recorded steps it has met, and which calls are open.

Nothing here does I/O or calls the user's function: a face asks, acts, and reports back. All methods may be called from
any thread.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from agentcheckpoint.core import ids
from agentcheckpoint.core.handles import Handles
from agentcheckpoint.core.models import Done, Inputs, LogEntry, Rejected
from agentcheckpoint.core.waits import Waits


@dataclass(eq=False, slots=True)
class Scope:
    """One execution of a step (or of the run itself), in which names are counted from one."""

    slot: str = ""
    groups: dict[str, _Group] = field(default_factory=dict["str", "_Group"])
    encloses: bool = False
    """A step was called in it."""


@dataclass(eq=False, slots=True)
class Call:
    """One call of a step, from the moment it is made.

    Attributes:
        slot: where it is, or will be, recorded.
        found: the record to replay; ``None``: execute.
        mismatch: the record that stands in the slot with other inputs; then ``found`` is ``None``.
        overlap: a sibling of the same name is or was open meanwhile.
        group: the calls of its name in its scope; ``None``: it has a key, and ``start`` says what is recorded.
        ordinal: which of the group's it is.
        over: it was answered, or given up.
        ended: done when it is over.
    """

    slot: str
    inputs: Inputs
    found: Done | None = None
    mismatch: Done | None = None
    overlap: bool = False
    group: _Group | None = None
    ordinal: int = 1
    over: bool = False
    ended: Future[None] = field(default_factory=Future["None"])


@dataclass(eq=False, slots=True)
class _Group:
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


class Journal:
    """What this attempt knows of the run's steps.

    Args:
        entries: the run's log, in order.
    """

    def __init__(self, entries: Iterable[LogEntry]) -> None:
        self.records: dict[str, Done] = {}
        self.handles = Handles()
        """The answers that were paid for, perhaps, and can be fetched by their ids."""
        self.waits = Waits()
        self._executing: set[Call] = set()
        self._resting: set[str] = set()
        """The slots of waits that would end the attempt."""
        self._ordinals: dict[str, dict[int, Done]] = defaultdict(dict)
        self._met: set[str] = set()
        self._keyed: dict[str, Call] = {}
        # Reentrant: a call that nobody awaited is ended by its finalizer, and that may run anywhere.
        self._lock = threading.RLock()
        for entry in entries:
            self.handles.tell(entry)
            self.waits.tell(entry)
            if isinstance(entry, Done):
                self._put(entry)
            elif isinstance(entry, Rejected):
                self.reject(entry.slot, entry.target)

    # -- asking ---------------------------------------------------------------------------------------------------

    def call(self, scope: Scope, name: str, key: str | None, inputs: Inputs) -> Call:
        """Takes the slot of a call that is being made now. What to do about it is known after ``start``."""
        scope.encloses = True
        if key is not None:
            return Call(ids.slot(scope.slot, name, key=key), inputs)
        with self._lock:
            group = scope.groups.get(name)
            if group is None:
                group = scope.groups[name] = self._group(ids.slot(scope.slot, name))
            ordinal, may_mismatch = self._choose(group, inputs.digest)
            call = Call(ids.slot(scope.slot, name, ordinal=ordinal), inputs, group=group, ordinal=ordinal)
            self._compare(call, may_mismatch)
            for sibling in tuple(group.open):
                call.overlap = sibling.overlap = True
            group.open.add(call)
            return call

    def start(self, call: Call) -> Call | None:
        """Begins a call: its ``found`` and ``mismatch`` say what to do.

        Returns the call of the same key that is under way: wait for its ``ended`` and start again.
        """
        if call.group is not None:
            return None
        with self._lock:
            under_way = self._keyed.setdefault(call.slot, call)
            if under_way is not call:
                return under_way
            self._compare(call, True)
            return None

    def under_way(self, call: Call) -> Call | None:
        """Another call of the same key that is under way."""
        with self._lock:
            other = self._keyed.get(call.slot)
            return other if other is not call else None

    def executes(self, call: Call) -> None:
        """Until it is over, the call does something that should not be cut off."""
        with self._lock:
            self._executing.add(call)

    def rest(self, slot: str) -> bool:
        """The wait in this slot has nothing to do; whether that is so of all that is under way in the attempt."""
        with self._lock:
            self._resting.add(slot)
            return all(any(ids.is_inside(wait, {call.slot}) for wait in self._resting) for call in self._executing)

    def rise(self, slot: str) -> None:
        """The wait in this slot is over."""
        with self._lock:
            self._resting.discard(slot)

    def _choose(self, group: _Group, digest: str) -> tuple[int, bool]:
        """The ordinal of a call with these inputs, and whether it can be a mismatch."""
        for ordinals in (group.unmet.get(digest), group.again.get(digest)):
            if ordinals:  # the lowest of equal inputs: parallel calls may come in another order
                return group.take(heapq.heappop(ordinals)), True
        standing = self._ordinals[group.base].get(group.lowest)
        if standing is None:
            return group.take(group.lowest), False
        if standing.overlap:  # made beside its siblings: its number says nothing
            return group.take(group.highest + 1), False
        equals = group.unmet.get(standing.inputs.digest, [])
        if group.lowest in equals:
            equals.remove(group.lowest)
            heapq.heapify(equals)
        return group.take(group.lowest), True

    def _compare(self, call: Call, may_mismatch: bool) -> None:
        standing = self.records.get(call.slot)
        if standing is None:
            call.found = call.mismatch = None
        elif standing.inputs.digest == call.inputs.digest:
            call.found, call.mismatch = standing, None
        elif may_mismatch:
            call.found, call.mismatch = None, standing

    def _group(self, base: str) -> _Group:
        recorded = self._ordinals[base]
        unmet: dict[str, list[int]] = defaultdict(list)
        for ordinal in sorted(recorded):
            unmet[recorded[ordinal].inputs.digest].append(ordinal)
        return _Group(base, unmet, highest=max(recorded, default=0))

    # -- reporting ------------------------------------------------------------------------------------------------

    def record(self, call: Call, done: Done) -> None:
        """The call's checkpoint is stored, and answers it."""
        with self._lock:
            self._put(done)
            self.replayed(call)

    def replayed(self, call: Call) -> None:
        """The call was answered from its record."""
        with self._lock:
            self._met.add(call.slot)
            self._close(call)

    def whole(self, call: Call) -> None:
        """The caller has all of the answer though its end has not come yet: what he calls next is not beside it."""
        if call.group is not None:
            with self._lock:
                call.group.open.discard(call)

    def end(self, call: Call) -> None:
        """The call is over. If it was not answered, the same call made again takes the same slot."""
        with self._lock:
            if not call.over:
                self._free(call)
                self._close(call)

    def undelivered(self, call: Call) -> None:
        """The call was answered, but its caller had gone: the same call made again gets the answer."""
        with self._lock:
            self._free(call)
            self._close(call)

    def reopen(self, call: Call) -> None:
        """The call's answer was refused: the same call made again takes the same slot."""
        with self._lock:
            self._free(call)

    def reject(self, slot: str, target: str) -> None:
        """A recorded answer was refused: the slot has no record any more."""
        with self._lock:
            done = self.records.get(slot)
            if done is not None and done.id == target:
                del self.records[slot]
                base, ordinal = ids.split_slot(slot)
                self._ordinals[base].pop(ordinal, None)

    def _free(self, call: Call) -> None:
        group = call.group
        if group is None:
            return
        standing = self.records.get(call.slot)
        equal = standing is not None and standing.inputs.digest == call.inputs.digest
        places = [(group.unmet if equal else group.again).setdefault(call.inputs.digest, [])]
        if standing is not None and not equal:  # a mismatch: the call that was recorded still finds its record
            places.append(group.unmet.setdefault(standing.inputs.digest, []))
        for ordinals in places:
            if call.ordinal not in ordinals:
                heapq.heappush(ordinals, call.ordinal)

    def _close(self, call: Call) -> None:
        call.over = True
        self._executing.discard(call)
        if call.group is not None:
            call.group.open.discard(call)
        if self._keyed.get(call.slot) is call:
            del self._keyed[call.slot]
        if not call.ended.done():
            call.ended.set_result(None)

    # -- looking back ---------------------------------------------------------------------------------------------

    def unmet(self) -> list[Done]:
        """Recorded steps that this attempt has not met, and that do not lie inside one that it has."""
        with self._lock:
            unmet = [done for slot, done in self.records.items() if slot not in self._met]
            return [done for done in unmet if not ids.is_inside(done.slot, self._met)]

    def _put(self, done: Done) -> None:
        self.records[done.slot] = done
        self.waits.tell(done)
        base, ordinal = ids.split_slot(done.slot)
        self._ordinals[base][ordinal] = done

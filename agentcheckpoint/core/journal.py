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

from agentcheckpoint.core import ids
from agentcheckpoint.core.calls import Call as Call
from agentcheckpoint.core.calls import Group
from agentcheckpoint.core.calls import Scope as Scope
from agentcheckpoint.core.doubt import Doubts
from agentcheckpoint.core.handles import Handles
from agentcheckpoint.core.models import Done, Failed, Inputs, LogEntry, Rejected
from agentcheckpoint.core.tries import Tries
from agentcheckpoint.core.waits import Waits
from agentcheckpoint.errors import RunMisuse


class Journal:
    """What this attempt knows of the run's steps.

    Args:
        entries: the run's log, in order.
    """

    def __init__(self, entries: Iterable[LogEntry]) -> None:
        self.records: dict[str, Done] = {}
        self.handles = Handles()
        """The answers that were paid for, perhaps, and can be fetched by their ids."""
        self.tries = Tries()
        """The tries that failed."""
        self.doubts = Doubts()
        """The calls of which nobody knows what came."""
        self.waits = Waits()
        self.own: set[str] = set()
        """The ids of the records that this attempt made."""
        self._executing: set[Call] = set()
        self._resting: set[str] = set()
        """The slots of waits that would end the attempt."""
        self._ordinals: dict[str, dict[int, Done]] = defaultdict(dict)
        self._met: set[str] = set()
        self._keyed: dict[str, Call] = {}
        self._landing: dict[Call, Scope] = {}
        """The calls whose results are being stored, and what they are part of."""
        # Reentrant: a call that nobody awaited is ended by its finalizer, and that may run anywhere.
        self._lock = threading.RLock()
        for entry in entries:
            self.handles.tell(entry)
            self.tries.tell(entry)
            self.doubts.tell(entry)
            if isinstance(entry, Done):
                self._put(entry)
                continue
            self.waits.tell(entry)
            if isinstance(entry, Rejected):
                self.reject(entry.slot, entry.target)

    # -- asking ---------------------------------------------------------------------------------------------------

    def call(self, scope: Scope, name: str, key: str | None, inputs: Inputs) -> Call:
        """Takes the slot of a call that is being made now. What to do about it is known after ``start``."""
        if scope.sealed:
            raise RunMisuse(f"step {name!r} is called inside step {scope.slot!r}: {scope.sealed}", step=name)
        scope.encloses = True
        if key is not None:
            return Call(ids.slot(scope.slot, name, key=key), inputs)
        with self._lock:
            group = scope.groups.get(name)
            if group is None:
                group = scope.groups[name] = self._group(ids.slot(scope.slot, name))
            ordinal, may_mismatch = self._choose(group, inputs.digest)
            call = Call(ids.sibling(group.base, ordinal), inputs, group=group, ordinal=ordinal)
            self._compare(call, may_mismatch)
            call.overlap = bool(group.open)
            if len(group.open) == 1:  # of more than one, each was marked when the second came
                for sibling in group.open:
                    sibling.overlap = True
            group.open.add(call)
            return call

    def start(self, call: Call) -> Call | None:
        """Begins a call: its ``found`` and ``mismatch`` say what to do.

        Returns the call of the same key that is under way: wait for its end and start again.
        """
        if call.group is not None:
            return None
        with self._lock:
            under_way = self._keyed.setdefault(call.slot, call)
            if under_way is not call:
                return under_way
            self._compare(call, True)
            return None

    def end_of(self, call: Call) -> Future[None]:
        """Done when the call is over."""
        with self._lock:
            if call.ended is None:
                call.ended = Future()
                if call.over:
                    call.ended.set_result(None)
            return call.ended

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

    def _choose(self, group: Group, digest: str) -> tuple[int, bool]:
        """The ordinal of a call with these inputs, and whether it can be a mismatch."""
        if ordinals := group.unmet.get(digest) or group.again.get(digest):
            # The lowest of equal inputs: parallel calls may come in another order.
            return group.take(heapq.heappop(ordinals)), True
        lowest = group.lowest
        standing = self._ordinals[group.base].get(lowest) or self.doubts.placed(group.base).get(lowest)
        if standing is None or standing.inputs is None:
            return group.take(lowest), False
        if standing.overlap:  # made beside its siblings: its number says nothing
            return group.take(group.highest + 1), False
        for waiting in (group.unmet, group.again):
            equals = waiting.get(standing.inputs.digest, [])
            if lowest in equals:
                equals.remove(lowest)
                heapq.heapify(equals)
        return group.take(lowest), True

    def _compare(self, call: Call, may_mismatch: bool) -> None:
        standing = self.records.get(call.slot)
        if standing is None:
            call.found = call.mismatch = None
        elif standing.inputs.digest == call.inputs.digest:
            call.found, call.mismatch = standing, None
        elif may_mismatch:
            call.found, call.mismatch = None, standing

    def _group(self, base: str) -> Group:
        recorded = self._ordinals[base]
        unmet: dict[str, list[int]] = defaultdict(list)
        for ordinal in sorted(recorded):
            unmet[recorded[ordinal].inputs.digest].append(ordinal)
        again: dict[str, list[int]] = defaultdict(list)
        doubts = self.doubts.placed(base)
        for ordinal in sorted(doubts.keys() - recorded.keys()):
            inputs = doubts[ordinal].inputs
            if inputs is not None:
                again[inputs.digest].append(ordinal)
        return Group(base, unmet, highest=max((*recorded, *doubts), default=0), again=again)

    # -- reporting ------------------------------------------------------------------------------------------------

    def record(self, call: Call, done: Done) -> None:
        """The call's checkpoint is stored, and answers it."""
        with self._lock:
            self._put(done)
            self.own.add(done.id)
            self.tries.tell(done)
            self.replayed(call)

    def failed(self, entry: Failed) -> None:
        """A try of a step is stored as failed."""
        with self._lock:
            self.tries.tell(entry)

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
        if call.over:  # it stays so: most calls end twice, and without the lock the second costs nothing
            return
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

    def land(self, call: Call, scope: Scope) -> bool:
        """The call's result is about to be stored, unless what it is part of was given up."""
        with self._lock:
            if scope.given_up() is not None:
                return False
            self._landing[call] = scope
            return True

    def landed(self, call: Call) -> None:
        """Its result is stored, or was not to be."""
        with self._lock:
            self._landing.pop(call, None)

    def give_up(self, scope: Scope, why: BaseException) -> list[Call]:
        """Nothing more that this execution does is recorded, though it may go on in its thread.

        Returns the calls whose results are being stored: they still count.
        """
        with self._lock:
            scope.over = why
            landing = [call for call, where in self._landing.items() if where.is_in(scope)]
            for call in [call for slot, call in self._keyed.items() if ids.is_inside(slot, {scope.slot})]:
                if call not in landing:
                    self._close(call)
            return landing

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
        if call.ended is not None and not call.ended.done():
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

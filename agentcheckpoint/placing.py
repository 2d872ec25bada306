"""Reading and writing the cursor of a step that is under way. One text for both colours."""

from __future__ import annotations

from typing import Any

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.codec import ResultType
from agentcheckpoint.core.cursors import MAX_CURSOR, CursorKind, Position, cursor_field
from agentcheckpoint.core.journal import Scope
from agentcheckpoint.core.models import Logged
from agentcheckpoint.errors import CheckpointCorrupt, ResultNotStorable, RunMisuse, StepMismatch
from agentcheckpoint.store.commit import Change
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.marks import Marks


class Place:
    """The cursor of one execution of a step.

    Args:
        attempt: in which attempt of which run.
        scope: the execution.
        kind: what uses it.
        type: how its values are stored.
    """

    def __init__(self, attempt: Attempt, scope: Scope, kind: CursorKind, type: ResultType[Any]) -> None:
        self.attempt, self.scope, self.slot = attempt, scope, scope.slot
        self._kind: CursorKind = kind
        self._type = type

    def stored(self, start: Any) -> Any:
        """The value that is stored, or ``start``.

        Raises:
            StepMismatch: it was set by a call with other inputs.
            CheckpointCorrupt: it does not fit the type.
        """
        position = self.attempt.cursors.positions.get(self.slot)
        if position is None:
            return start
        policy = self.attempt.options.on_mismatch
        if position.digest != self.scope.digest and policy != "reuse":
            if policy == "rerun":
                return start
            raise self._mismatch("it was set by a call of the step with other inputs than it is called with now")
        if position.kind != self._kind:
            raise self._mismatch(
                f"it is a cursor of kind {position.kind!r}, and one of kind {self._kind!r} is asked for"
            )
        try:
            return self._type.decode(position.value.encode())
        except CheckpointCorrupt as exc:
            raise CheckpointCorrupt(
                f"run {self.attempt.run_id!r}, step {self.slot!r}: its stored cursor {position.value[:100]} does not "
                f"fit its type any more: {exc}",
                run_id=self.attempt.run_id,
                step=self.slot,
            ) from exc.__cause__

    def check(self) -> None:
        """Raises if the running code may not set it: it is elsewhere, or the step is over."""
        self.attempt.check_right()
        here = current.position()
        if here is None or here.scope is not self.scope or self.attempt.cursors.taken.get(self.slot) is not self.scope:
            raise self.misuse("it can be set by the body of its own step only, while that runs")
        done = self.attempt.journal.records.get(self.slot)
        if done is not None and done.inputs.digest == self.scope.digest:
            raise self.misuse("its step is done")

    def write(self, value: object, marks: Marks | None = None) -> Protocol[Any]:
        """Stores a value, and marks, in one round trip; returns it as it will be read. Raises what ``commit`` does."""
        try:
            data, value = self._type.encode(value)
            if len(data) > MAX_CURSOR:
                raise ResultNotStorable(f"it takes {len(data):,} bytes, and {MAX_CURSOR:,} are allowed", value=value)
        except ResultNotStorable as exc:
            raise ResultNotStorable(
                f"run {self.attempt.run_id!r}, the cursor of step {self.slot!r}: {exc}",
                path=exc.path,
                run_id=self.attempt.run_id,
                step=self.slot,
                value=exc.value,
            ) from exc.__cause__
        attempt, now, positions = self.attempt, self.attempt.now_ms(), self.attempt.cursors.positions
        position = Position(begun=attempt.birth, digest=self.scope.digest, kind=self._kind, at=now, value=data.decode())
        fields = {cursor_field(self.slot): position.model_dump_json(exclude_none=True)}
        stands = self.slot in positions
        change = Change(Logged(id=new_id(), at=now), fields=fields, unlogged=True, stands=stands, marks=marks)
        if marks is not None:
            attempt.fence.marked.add(self.slot)
            attempt.fence.looping.add(self.slot)  # before it leaves: the next claim is to take them along
        yield from attempt.store_change(change, self.slot, value)
        attempt.cursors.stored(self.slot, position)
        return value

    def misuse(self, why: str) -> RunMisuse:
        """The error for a use that makes no sense."""
        return RunMisuse(
            f"run {self.attempt.run_id!r}, the cursor of step {self.slot!r}: {why}.",
            run_id=self.attempt.run_id,
            step=self.slot,
        )

    def _mismatch(self, why: str) -> StepMismatch:
        return StepMismatch(
            f"run {self.attempt.run_id!r}, step {self.slot!r}: its stored cursor cannot be gone on from: {why}. "
            "Choose: a key (Step(name, key=...)) if these are different steps; ac.run(..., on_mismatch='rerun') to "
            "begin the step at its start; on_mismatch='reuse' to go on from there all the same; or another run id.",
            run_id=self.attempt.run_id,
            step=self.slot,
        )


def take_cursor(attempt: Attempt, scope: Scope, kind: CursorKind, type: ResultType[Any]) -> Place:
    """The cursor of the execution of a step.

    Raises:
        RunMisuse: it has been asked for already.
    """
    place = Place(attempt, scope, kind, type)
    if attempt.cursors.taken.get(scope.slot) is scope:
        raise place.misuse("a step has one cursor; make its value a tuple or a dataclass to hold more")
    attempt.cursors.taken[scope.slot] = scope
    return place

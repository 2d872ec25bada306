"""The cursor of a loop that the user writes: a typed value, kept as the loop goes on."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

from agentcheckpoint import current
from agentcheckpoint.core.codec import result_type
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.explain import placed
from agentcheckpoint.flow import Flow, Perform, run_flow, run_flow_async
from agentcheckpoint.placing import Place, take_cursor
from agentcheckpoint.store.connect import switched_off

T = TypeVar("T")


class _Value(Generic[T]):
    """What both colours of a cursor share."""

    def __init__(self, type: type[T], start: T) -> None:
        """See the class."""
        stored = result_type(type)
        self._place: Place | None = None
        self._value = start
        here = current.position()
        if here is None and switched_off():
            return
        if here is None or not here.scope.slot:
            raise RunMisuse(
                f"{self.__class__.__name__}(...): a cursor belongs to a step: make it in the body of a function that "
                "is called by run.step."
            )
        if here.scope.sealed:
            raise RunMisuse(
                f"run {here.attempt.run_id!r}, step {here.scope.slot!r}: a cursor inside a transaction would be stored "
                "apart from it. Loop outside: for item in run.cursor(...): run.transaction(...)."
            )
        self._place = take_cursor(here.attempt, here.scope, "value", stored)
        with placed(here.attempt.run_id, here.scope.slot):
            self._value = cast(T, self._place.stored(stored.encode(start)[1]))

    @property
    def value(self) -> T:
        """What was set last, by this attempt of the step or one before; at first, what it starts with."""
        return self._value

    def _set(self, value: T) -> Flow[None]:
        assert self._place is not None
        self._place.check()
        self._value = yield Perform(self._place.write(value))
        self._place.attempt.check_end()
        return None

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} {self._value!r}>"


class Cursor(_Value[T]):
    """How far the step that makes it has come: ``cursor = ac.Cursor(int, start=0)`` in its body.

    It is stored each time it is set, survives the process, and is gone when its step is done.

    Args:
        type: of its values: what a step can return.
        start: its value before it was ever set.

    Raises:
        RunMisuse: the running code is in no step, or in a transaction, or its step has a cursor already.
        StepMismatch: the stored one was set by a call with other inputs; the run's ``on_mismatch`` decides.
        CheckpointCorrupt: the stored one does not fit the type.
    """

    def set(self, value: T) -> None:
        """Stores it, in one round trip.

        Raises:
            Interrupted, RunTimeout: the attempt is to end; the value is stored.
            RunMisuse: its step is over, or the running code is in another one.
            ResultNotStorable: it would not come back as it is, or takes more than 64 KB.
            LeaseLost, CommitUnknown, StoreUnavailable, StoreRefused, CheckpointsLost.
        """
        if self._place is None or self._place.attempt.store is None:
            self._value = value
        else:
            run_flow(self._place.attempt.store, self._set(value))


class AsyncCursor(_Value[T]):
    """The same on an event loop: ``await cursor.set(value)``. See ``Cursor``."""

    async def set(self, value: T) -> None:
        """Stores it, in one round trip; see ``Cursor.set``."""
        if self._place is None or self._place.attempt.store is None:
            self._value = value
        else:
            await run_flow_async(self._place.attempt.store, self._set(value))

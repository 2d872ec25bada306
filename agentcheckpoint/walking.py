"""One pass over the items of ``run.cursor(name, items)``: a step that skips those whose bodies ended before."""

from __future__ import annotations

import functools
import hashlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextvars import Token
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core import ids
from agentcheckpoint.core.codec import result_type
from agentcheckpoint.core.cursors import CursorKind, Passed
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.core.journal import Scope
from agentcheckpoint.core.models import Record
from agentcheckpoint.errors import StepMismatch
from agentcheckpoint.flow import Course, Flow, Perform
from agentcheckpoint.options import Step
from agentcheckpoint.placing import Place, take_cursor
from agentcheckpoint.progress import Progress
from agentcheckpoint.steps import Plan, decide, replay, scope_in
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.trying import examine, keep

T = TypeVar("T")
_LONGEST_SEEN = 1000
"""Characters up to which an item without a key is compared."""


@dataclass(frozen=True, slots=True)
class Manner(Generic[T]):
    """How a loop is gone through.

    Attributes:
        key: what tells an item apart from the others; ``None``: its number.
        every, or_seconds: after how many items, or seconds, the position is stored.
        progress: makes what shows how far it is; ``None``: nothing does.
    """

    key: Callable[[T], object] | None
    every: int
    or_seconds: float | None
    progress: Callable[[], Progress] | None = None


class Walk(ABC, Generic[T]):
    """What both kinds, and both colours, share.

    Args:
        attempt, step: which run, and which step the loop is.
        manner: how it is gone through.
    """

    kind: CursorKind
    stored: type[Record]
    """What is kept of how far it is."""
    ahead = 1
    """How many items are to be taken next."""
    done = 0
    """How many items have passed, those of earlier attempts among them."""

    def __init__(self, attempt: Attempt, step: Step, manner: Manner[T]) -> None:
        self.attempt, self.step, self.manner = attempt, step, manner
        self.is_begun = False
        self.ready = deque[tuple[T, str]]()
        """The items that are to be worked on next, with what their steps are recorded under."""
        self.place: Place
        self._plan: Plan | None = None
        self._unstored, self._in_body = 0, False
        self._stored_at = self._began = time.monotonic()
        self._inside: Token[Any] | None = None
        self._progress: Progress | None = None

    # -- what each kind has of its own ----------------------------------------------------------------------------

    @abstractmethod
    def start(self) -> None:
        """Takes up the stored position."""

    @abstractmethod
    def take(self, page: list[T]) -> bool:
        """Looks at the next items; whether the store must be asked before those to be worked on are ``ready``."""

    def ask(self) -> Course[None]:
        """Asks the store for the items that were taken, where ``take`` says so."""
        yield from ()

    @abstractmethod
    def entered(self) -> None:
        """The body of the first that was ready begins."""

    @abstractmethod
    def left(self) -> None:
        """That body has ended."""

    @abstractmethod
    def write(self) -> Protocol[Any]:
        """Stores how far it is."""

    @abstractmethod
    def check_end(self) -> None:
        """Raises if what was done cannot have been these items."""

    # -- the course -----------------------------------------------------------------------------------------------

    def begin(self) -> Course[bool]:
        """Takes the slot and the stored position; whether there is anything to do."""
        self.is_begun = True
        self.attempt.check()
        scope = scope_in(self.attempt)
        call = self.attempt.journal.call(scope, self.step.name, self.step.key, function_inputs(_nothing, (), {}))
        number, function = result_type(int), functools.partial(_nothing)
        plan = self._plan = Plan(self.attempt, self.step, "step", scope, call, "cursor", number, function, ((), {}))
        record = yield from decide(plan)
        if record is not None:
            yield from replay(plan, record, plan.type.decode)
            return False
        self.attempt.journal.executes(call)
        self.place = take_cursor(self.attempt, plan.inside(), self.kind, result_type(self.stored))
        self.start()
        self._progress = self.manner.progress() if self.manner.progress is not None else None
        return True

    def leave(self) -> None:
        """The running code is in no item's body any more."""
        if self._inside is not None:
            current.leave(self._inside)
            self._inside = None

    def passed(self) -> Course[None]:
        """The body of the last item has ended: that is stored, if it is time, or if the attempt is to end."""
        if not self._in_body:
            return
        self._in_body = False
        self.left()
        self._show()
        self._unstored += 1
        now = time.monotonic()
        if not self._is_time(now) and not self.attempt.is_to_end:
            return
        self.attempt.check_right()
        yield Perform(self.write())
        self._unstored, self._stored_at = 0, now
        self.attempt.check_end()

    def _is_time(self, now: float) -> bool:
        every, seconds = self.manner.every, self.manner.or_seconds
        return self._unstored >= every or (seconds is not None and now - self._stored_at >= seconds)

    def enter(self) -> T:
        """The next item that is ready: its body begins."""
        self.entered()
        item, key = self.ready.popleft()
        outer = self.place.scope
        own = ids.slot(self.place.slot, "item", key=key)
        scope = Scope(own, outer=outer, digest=outer.digest, retried=outer.retried)
        outer.encloses = self._in_body = True
        self._inside = current.enter(self.attempt, scope)
        return item

    def end(self) -> Flow[Any]:
        """All items have passed: the step is done, and its cursor goes."""
        assert self._plan is not None
        self.check_end()
        self.attempt.check()
        self.stop_showing()
        ms = int((time.monotonic() - self._began) * 1000)
        return (yield from keep(self._plan, examine(self._plan, self.done, ms, ())))

    def _show(self) -> None:
        if self._progress is not None:
            self._progress.at(self.done)

    def stop_showing(self) -> None:
        """The loop is over, or was left."""
        if self._progress is not None:
            self._progress.end(self.done)
            self._progress = None

    def __del__(self) -> None:
        self.leave()  # the loop was left by break, return, or an error
        self.stop_showing()


class Ordered(Walk[T]):
    """A pass that keeps one position: what was done last."""

    kind, stored = "ordered", Passed

    def start(self) -> None:
        """See ``Walk``."""
        self._seek: Passed | None = self.place.stored(None)
        """What has to be met before an item is worked on."""
        self._last = Passed(done=0)
        self._item = self._last
        self._index = 0

    def take(self, page: list[T]) -> bool:
        """See ``Walk``.

        Raises:
            StepMismatch: it is not the one that stood there.
            RunMisuse: its key is another item's.
        """
        for item in page:
            self._admit(item)
        return False

    def _admit(self, item: T) -> None:
        self._index += 1
        key = None if self.manner.key is None else ids.check_key(str(self.manner.key(item)))
        if self._seek is not None:
            if key == self._seek.key if key is not None else self._index == self._seek.done:
                seen = _seen(item) if key is None else None
                if (key is None) != (self._seek.key is None) or seen != self._seek.seen:
                    raise self._astray(f"item {self._index} is not the one that was done last")
                self._last, self._seek = self._seek, None
                self.done = self._last.done
            return
        if key is not None and key == self._last.key:
            raise self.place.misuse(f"two items have the key {key!r}, and it has to tell them apart")
        self._item = Passed(done=self.done + 1, key=key, seen=_seen(item) if key is None else None)
        self.ready.append((item, str(self._index) if key is None else key))

    def entered(self) -> None:
        """See ``Walk``: the item was noted as it was taken."""

    def left(self) -> None:
        """See ``Walk``."""
        self._last, self.done = self._item, self._item.done

    def write(self) -> Protocol[Any]:
        """See ``Walk``."""
        return self.place.write(self._last)

    def check_end(self) -> None:
        """Raises ``StepMismatch`` if the item that was done last is not among the items."""
        if self._seek is not None:
            last = f"the item {self._seek.key!r}" if self._seek.key is not None else f"item {self._seek.done}"
            raise self._astray(f"{last} was done last, and is not among the items now")

    def _astray(self, why: str) -> StepMismatch:
        run_id, slot = self.attempt.run_id, self.place.slot
        return StepMismatch(
            f"run {run_id!r}, step {slot!r}: its cursor does not fit the items: {why}. No item was worked on. Give the "
            "items that it was begun with, in their order; or another name or key, to begin at the first.",
            run_id=run_id,
            step=slot,
        )


def _nothing() -> None:
    return None


def _seen(item: object) -> str | None:
    """The digest of an item that is a short text or a number."""
    if not isinstance(item, str | int | float) or (isinstance(item, str) and len(item) > _LONGEST_SEEN):
        return None
    return hashlib.sha256(repr(item).encode("utf-8", "backslashreplace")).hexdigest()[:16]

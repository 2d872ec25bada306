"""``run.cursor(name, items)``: a loop over items as a step that skips those whose bodies ended before."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextvars import Token
from typing import Any, Generic, TypeVar

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core import ids
from agentcheckpoint.core.codec import result_type
from agentcheckpoint.core.cursors import Passed
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.core.journal import Scope
from agentcheckpoint.errors import RunMisuse, StepMismatch
from agentcheckpoint.face import RunBase
from agentcheckpoint.flow import Course, Flow, Perform, run_flow, run_flow_async
from agentcheckpoint.options import Step, as_step
from agentcheckpoint.placing import Place, take_cursor
from agentcheckpoint.steps import Plan, decide, replay, scope_in
from agentcheckpoint.trying import examine, keep

T = TypeVar("T")
_LONGEST_SEEN = 1000
"""Characters up to which an item without a key is compared."""


class Walk(Generic[T]):
    """One pass over the items: what both colours share.

    Args:
        attempt, step: which run, and which step the loop is.
        key: what tells an item apart from the others; ``None``: its number.
        every, or_seconds: after how many items, or seconds, the position is stored.
    """

    def __init__(
        self, attempt: Attempt, step: Step, key: Callable[[T], object] | None, every: int, or_seconds: float | None
    ) -> None:
        self.attempt, self.step = attempt, step
        self.key, self.every, self.or_seconds = key, every, or_seconds
        self.is_begun = False
        self._plan: Plan | None = None
        self._place: Place | None = None
        self._seek: Passed | None = None
        """What has to be met before an item is worked on."""
        self._last = Passed(done=0)
        self._item: Passed | None = None
        """The item whose body runs."""
        self._index, self._unstored = 0, 0
        self._stored_at = self._began = time.monotonic()
        self._inside: Token[Any] | None = None

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
        self._place = take_cursor(self.attempt, plan.inside(), "ordered", result_type(Passed))
        self._seek = self._place.stored(None)
        return True

    def leave(self) -> None:
        """The running code is in no item's body any more."""
        if self._inside is not None:
            current.leave(self._inside)
            self._inside = None

    def passed(self) -> Course[None]:
        """The body of the last item has ended: its place is stored, if it is time."""
        if self._item is None:
            return
        self._last, self._item = self._item, None
        self._unstored += 1
        now = time.monotonic()
        if self._unstored < self.every and (self.or_seconds is None or now - self._stored_at < self.or_seconds):
            return
        self.attempt.check()
        assert self._place is not None
        yield Perform(self._place.write(self._last))
        self._unstored, self._stored_at = 0, now

    def admit(self, item: T) -> bool:
        """Whether the item is to be worked on; if so, its body begins.

        Raises:
            StepMismatch: it is not the one that stood there.
            RunMisuse: its key is another item's.
        """
        assert self._place is not None
        self._index += 1
        key = None if self.key is None else ids.check_key(str(self.key(item)))
        if self._seek is not None:
            if key == self._seek.key if key is not None else self._index == self._seek.done:
                seen = _seen(item) if key is None else None
                if (key is None) != (self._seek.key is None) or seen != self._seek.seen:
                    raise self._astray(f"item {self._index} is not the one that was done last")
                self._last, self._seek = self._seek, None
            return False
        if key is not None and key == self._last.key:
            raise self._place.misuse(f"two items have the key {key!r}, and it has to tell them apart")
        self._item = Passed(done=self._last.done + 1, key=key, seen=_seen(item) if key is None else None)
        own = ids.slot(self._place.slot, "item", key=str(self._index) if key is None else key)
        outer = self._place.scope
        scope = Scope(own, outer=outer, digest=outer.digest, retried=outer.retried)
        outer.encloses = True
        self._inside = current.enter(self.attempt, scope)
        return True

    def end(self) -> Flow[Any]:
        """All items have passed: the step is done, and its cursor goes."""
        assert self._plan is not None
        if self._seek is not None:
            last = f"the item {self._seek.key!r}" if self._seek.key is not None else f"item {self._seek.done}"
            raise self._astray(f"{last} was done last, and is not among the items now")
        self.attempt.check()
        ms = int((time.monotonic() - self._began) * 1000)
        return (yield from keep(self._plan, examine(self._plan, self._last.done, ms, ())))

    def _astray(self, why: str) -> StepMismatch:
        slot = "" if self._place is None else self._place.slot
        return StepMismatch(
            f"run {self.attempt.run_id!r}, step {slot!r}: its cursor does not fit the items: {why}. No item was worked "
            "on. Give the items that it was begun with, in their order; or another name or key, to begin at the first.",
            run_id=self.attempt.run_id,
            step=slot,
        )

    def __del__(self) -> None:
        self.leave()  # the loop was left by break, return, or an error


class Loop(Generic[T]):
    """The items of a loop that are not done yet: for a ``for`` statement."""

    def __init__(self, walk: Callable[[], Walk[T]], items: Iterable[T]) -> None:
        self._walk, self._items = walk, items

    def __iter__(self) -> Iterator[T]:
        return _Items(self._walk(), self._items)


class _Items(Iterator[T]):
    """It is an object of its own: as its ``for`` lets go of it, the loop is known to be left."""

    def __init__(self, walk: Walk[T], items: Iterable[T]) -> None:
        self._walk, self._source, self._over = walk, iter(items), False

    def __next__(self) -> T:
        walk, store = self._walk, self._walk.attempt.store
        if store is None:
            return next(self._source)
        walk.leave()
        if not walk.is_begun:
            self._over = not run_flow(store, walk.begin())
        if self._over:
            raise StopIteration
        run_flow(store, walk.passed())
        for item in self._source:
            if walk.admit(item):
                return item
        self._over = True
        run_flow(store, walk.end())
        raise StopIteration


class AsyncLoop(Generic[T]):
    """The items of a loop that are not done yet: for an ``async for`` statement."""

    def __init__(self, walk: Callable[[], Walk[T]], items: Iterable[T] | AsyncIterable[T]) -> None:
        self._walk, self._items = walk, items

    def __aiter__(self) -> AsyncIterator[T]:
        items = self._items
        return _AsyncItems(self._walk(), aiter(items) if isinstance(items, AsyncIterable) else _each(items))


class _AsyncItems(AsyncIterator[T]):
    """See ``_Items``."""

    def __init__(self, walk: Walk[T], source: AsyncIterator[T]) -> None:
        self._walk, self._source, self._over = walk, source, False

    async def __anext__(self) -> T:
        walk, store = self._walk, self._walk.attempt.store
        if store is None:
            return await anext(self._source)
        walk.leave()
        if not walk.is_begun:
            self._over = not await run_flow_async(store, walk.begin())
        if self._over:
            raise StopAsyncIteration
        await run_flow_async(store, walk.passed())
        async for item in self._source:
            if walk.admit(item):
                return item
        self._over = True
        await run_flow_async(store, walk.end())
        raise StopAsyncIteration


class BlockingLoops(RunBase):
    """The loops of a blocking run."""

    def cursor(
        self,
        step: str | Step,
        items: Iterable[T],
        /,
        *,
        key: Callable[[T], object] | None = None,
        every: int = 1,
        or_seconds: float | None = None,
    ) -> Loop[T]:
        """A loop as a step: ``for doc in run.cursor("index", docs, key=...)`` skips the items that are done.

        An item is done when the next one is asked for, or the loop ends: not if its body raises, or breaks. Steps that
        the body calls are recorded under the item.

        Args:
            step: its name, or ``Step(name, ...)``.
            items: in the same order each time; a generator is consumed as the loop goes on.
            key: what tells an item apart; by default its number does.
            every: store the position after so many items: after a crash, up to so many are worked on again.
            or_seconds: or after so many seconds, if that is sooner.

        Raises:
            StepMismatch: the item that was done last is not among the items any more: when the loop is gone through.
            RunMisuse: there is no such ``every``; or two items that follow each other have one key.
        """
        return Loop(_walks(self._attempt, as_step(step), key, every, or_seconds), items)


class AsyncLoops(RunBase):
    """The loops of a run on an event loop."""

    def cursor(
        self,
        step: str | Step,
        items: Iterable[T] | AsyncIterable[T],
        /,
        *,
        key: Callable[[T], object] | None = None,
        every: int = 1,
        or_seconds: float | None = None,
    ) -> AsyncLoop[T]:
        """A loop as a step: ``async for doc in run.cursor("index", docs)``; see ``Run.cursor``."""
        return AsyncLoop(_walks(self._attempt, as_step(step), key, every, or_seconds), items)


def _walks(
    attempt: Attempt, step: Step, key: Callable[[T], object] | None, every: int, or_seconds: float | None
) -> Callable[[], Walk[T]]:
    if every < 1 or (or_seconds is not None and or_seconds < 0):
        raise RunMisuse(f"step {step.name!r}: every= is 1 or more, and or_seconds= is not below 0.")
    return functools.partial(Walk[T], attempt, step, key, every, or_seconds)


async def _each(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


def _nothing() -> None:
    return None


def _seen(item: object) -> str | None:
    """The digest of an item that is a short text or a number."""
    if not isinstance(item, str | int | float) or (isinstance(item, str) and len(item) > _LONGEST_SEEN):
        return None
    return hashlib.sha256(repr(item).encode("utf-8", "backslashreplace")).hexdigest()[:16]

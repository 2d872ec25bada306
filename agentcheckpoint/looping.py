"""``run.cursor(name, items)``: a loop over items as a step, for a ``for`` statement of either colour."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from dataclasses import replace
from itertools import islice
from typing import Generic, TypeVar

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.face import RunBase
from agentcheckpoint.flow import run_flow, run_flow_async
from agentcheckpoint.marking import MOST, Unordered
from agentcheckpoint.options import Step, as_step
from agentcheckpoint.progress import Progress
from agentcheckpoint.walking import Manner, Ordered, Walk

T = TypeVar("T")


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
        while not walk.ready and (page := list(islice(self._source, walk.ahead))):
            if walk.take(page):
                run_flow(store, walk.ask())
        if walk.ready:
            return walk.enter()
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
        while not walk.ready and (page := await _page(self._source, walk.ahead)):
            if walk.take(page):
                await run_flow_async(store, walk.ask())
        if walk.ready:
            return walk.enter()
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
        ordered: bool = True,
        every: int = 1,
        or_seconds: float | None = None,
        progress: bool = False,
    ) -> Loop[T]:
        """A loop as a step: ``for doc in run.cursor("index", docs, key=...)`` skips the items that are done.

        An item is done when the next one is asked for, or the loop ends: not if its body raises, or breaks. Steps that
        the body calls are recorded under the item.

        Args:
            step: its name, or ``Step(name, ...)``.
            items: in the same order each time; a generator is consumed as the loop goes on.
            key: what tells an item apart; by default its number does.
            ordered: ``False``: the items may come in another order, and some may go or come, between attempts: each is
                known by its key. Then up to as many are taken ahead as were skipped just before, 512 at most.
            every: store the position after so many items: after a crash, up to so many are worked on again.
            or_seconds: or after so many seconds, if that is sooner.
            progress: show how far it is, on standard error, in a terminal or a notebook.

        Raises:
            StepMismatch: the item that was done last is not among the items any more: when the loop is gone through.
            RunMisuse: there is no such ``every``; an unordered loop has no ``key``; or two items are met of one key.
        """
        show = _shows(as_step(step).name, items) if progress else None
        manner = Manner(key, every, or_seconds, show)
        return Loop(_walks(self._attempt, as_step(step), manner, ordered=ordered), items)


class AsyncLoops(RunBase):
    """The loops of a run on an event loop."""

    def cursor(
        self,
        step: str | Step,
        items: Iterable[T] | AsyncIterable[T],
        /,
        *,
        key: Callable[[T], object] | None = None,
        ordered: bool = True,
        every: int = 1,
        or_seconds: float | None = None,
        progress: bool = False,
    ) -> AsyncLoop[T]:
        """A loop as a step: ``async for doc in run.cursor("index", docs)``; see ``Run.cursor``."""
        show = _shows(as_step(step).name, items) if progress else None
        manner = Manner(key, every, or_seconds, show)
        return AsyncLoop(_walks(self._attempt, as_step(step), manner, ordered=ordered), items)


def _walks(attempt: Attempt, step: Step, manner: Manner[T], *, ordered: bool) -> Callable[[], Walk[T]]:
    if manner.every < 1 or (manner.or_seconds is not None and manner.or_seconds < 0):
        raise RunMisuse(f"step {step.name!r}: every= is 1 or more, and or_seconds= is not below 0.")
    if ordered:
        return functools.partial(Ordered[T], attempt, step, manner)
    if manner.key is None:
        raise RunMisuse(f"step {step.name!r}: a loop with ordered=False needs key=: by it an item is known.")
    return functools.partial(Unordered[T], attempt, step, replace(manner, every=min(manner.every, MOST)))


def _shows(name: str, items: object) -> Callable[[], Progress]:
    return functools.partial(Progress, name, len(items) if isinstance(items, Sized) else None)


async def _each(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def _page(source: AsyncIterator[T], most: int) -> list[T]:
    """The next items, so many or fewer."""
    page = list[T]()
    async for item in source:
        page.append(item)
        if len(page) >= most:
            break
    return page

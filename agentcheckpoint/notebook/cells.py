"""A cell that is a run, while it runs: it goes back if it is asked to, opens the run, and shows what came of it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agentcheckpoint import current
from agentcheckpoint.aio import AsyncRun
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.budget import Budget
from agentcheckpoint.core.markup import element
from agentcheckpoint.errors import AgentCheckpointError, StepMismatch, Suspended
from agentcheckpoint.forks import rewind
from agentcheckpoint.notebook.line import Asked, asked, explained, step_before
from agentcheckpoint.notebook.progress import Progress
from agentcheckpoint.notebook.telling import mismatch_card, mismatch_text, remarks, this_time
from agentcheckpoint.notebook.wrapping import MAGIC, awaits_in
from agentcheckpoint.runs import Run, run
from agentcheckpoint.show.card import RunFacts, run_card
from agentcheckpoint.show.layout import plain
from agentcheckpoint.view import RunView, get

if TYPE_CHECKING:
    from agentcheckpoint.runs import Opener

Show = Callable[[dict[str, str]], Any]
"""Displays texts by MIME type; returns a handle that updates them."""


class Cells:
    """What marked cells call: it opens their runs, and knows which one was the last.

    Args:
        fill: puts the notebook's variables into a line.
        show: displays something.
        is_live: whether what is displayed can be updated.
    """

    def __init__(self, fill: Callable[[str], str], show: Show, is_live: bool) -> None:
        self._fill, self._show, self._is_live = fill, show, is_live
        self._value: Any = None
        self.last: str | None = None
        """The id of the run of the last cell that was one."""

    def __call__(self, line: str) -> CellRun:
        wanted = asked(self._fill(line))
        return CellRun(wanted, self._show, self._is_live, self._note)

    def _note(self, attempt: Attempt) -> None:
        self.last = attempt.run_id
        if attempt.store is not None:
            current.remark(
                f"The last run, {attempt.run_id!r}, ended with its cell: a cell is a run if it begins with {MAGIC} and "
                "an id of its own."
            )

    def explain(self, line: str, body: str) -> None:
        """Prints the plain Python that a marked cell stands for."""
        print(explained(self._fill(line), body, awaits_in(body)))

    def keep(self, value: Any) -> None:
        """Takes the value of the cell's last expression."""
        self._value = value

    def kept(self) -> Any:
        """Gives it back, once the run is closed."""
        value, self._value = self._value, None
        return value


class CellRun:
    """The ``with`` around a cell."""

    _opener: Opener
    _attempt: Attempt
    _progress: Progress

    def __init__(self, wanted: Asked, show: Show, is_live: bool, note: Callable[[Attempt], None]) -> None:
        self._wanted, self._show, self._is_live, self._note = wanted, show, is_live, note

    def __enter__(self) -> Run:
        self._open(_go_back(self._wanted))
        opened = self._opener.__enter__()
        self._begin()
        return opened

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._opener.__exit__(kind, error, trace)
        finally:
            self._end(self._look(), error)

    async def __aenter__(self) -> AsyncRun:
        self._open(await asyncio.to_thread(_go_back, self._wanted))
        opened = await self._opener.__aenter__()
        self._begin()
        return opened

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._opener.__aexit__(kind, error, trace)
        finally:
            self._end(await asyncio.to_thread(self._look), error)

    def _open(self, is_fresh: bool) -> None:
        wanted = self._wanted
        self._opener = run(
            wanted.id,
            on_existing="fresh" if is_fresh else wanted.on_existing,
            on_mismatch=wanted.on_mismatch,
            budget=() if wanted.budget is None else Budget(wanted.budget),
        )

    def _begin(self) -> None:
        here = current.position()
        assert here is not None  # it has just been opened
        self._attempt = here.attempt
        self._note(self._attempt)
        is_shown = self._is_live and not self._wanted.quiet and self._attempt.store is not None
        self._progress = Progress(self._attempt, self._show if is_shown else None)
        self._progress.begin()

    def _look(self) -> RunView | None:
        """The run as it is stored now; a store that does not answer hides nothing of what the cell did."""
        if self._attempt.store is None or self._wanted.quiet:
            return None
        try:
            return get(self._attempt.run_id, store=self._attempt.store)
        except AgentCheckpointError:
            return None

    def _end(self, seen: RunView | None, error: BaseException | None) -> None:
        if isinstance(error, Suspended):
            _shorten(error)
        if self._attempt.store is None or self._wanted.quiet:
            return
        bundle = None if seen is None else _bundle(seen, self._attempt, self._wanted, error)
        self._progress.end(bundle)
        if bundle is not None and not self._is_live:
            self._show(bundle)
        if isinstance(error, StepMismatch):
            shown = mismatch_card(error, self._attempt.run_id)
            self._show({"text/plain": mismatch_text(error, self._attempt.run_id), "text/html": str(shown)})


def _go_back(wanted: Asked) -> bool:
    """Goes back to before a step, if that is asked for. Returns whether the run is to be begun afresh instead."""
    if wanted.back_to is None or wanted.id is None:
        return False
    after = step_before(get(wanted.id).entries, wanted.back_to, wanted.id)
    if after is not None:
        rewind(wanted.id, after=after)
    return after is None


def _bundle(seen: RunView, attempt: Attempt, wanted: Asked, error: BaseException | None) -> dict[str, str]:
    mine = next((row for row in seen.attempts if row.number == attempt.number), None)
    say = [] if mine is None else [this_time(mine), *remarks(wanted, bool(mine.cost.attempts))]
    if isinstance(error, Suspended):
        say.append(f"{error}\nRun this cell again to go on.")
    replayed = {done.slot for done in attempt.replayed}
    return {
        "text/plain": "\n".join([str(seen), *(plain(line) for text in say for line in text.split("\n"))]),
        "text/html": str(run_card(_facts(seen, replayed, say))),
    }


def _shorten(error: Suspended) -> None:
    """A run that waits is no fault: IPython asks the error itself what to show, and the way to it is not."""
    vars(error)["_render_traceback_"] = functools.partial(list, [f"{type(error).__name__}: {error}"])


def view_bundle(opened: Any) -> dict[str, str]:
    """An open or closed run as its stored state; of one that cannot be read, its ``repr``."""
    try:
        attempt = opened._attempt
        seen = get(opened.id, store=attempt.store, namespace=attempt.namespace)
    except AgentCheckpointError:
        return {"text/plain": repr(opened), "text/html": str(element("div", repr(opened)))}
    return {"text/plain": str(seen), "text/html": str(run_card(_facts(seen)))}


def _facts(seen: RunView, replayed: Collection[str] = (), say: Sequence[str] = ()) -> RunFacts:
    return RunFacts(seen.id, seen.state, seen.attempt, seen.cost, seen.entries, replayed, say)

"""Which run is the current one, here: a context variable, and the runs that are open in this process."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentcheckpoint.core.journal import Scope
from agentcheckpoint.errors import NoActiveRunWarning
from agentcheckpoint.store.holder import Holder, this_process

if TYPE_CHECKING:
    from agentcheckpoint.attempt import Attempt


@dataclass(frozen=True, slots=True)
class Position:
    """Where the running code is: in which attempt of which run, inside which step."""

    attempt: Attempt
    scope: Scope


_position: ContextVar[Position | None] = ContextVar("agentcheckpoint_position", default=None)
_open: dict[str, Attempt] = {}
_lock = threading.Lock()


def _forget() -> None:
    """In a forked child: its parent's runs are not open here, and the lock may be held by a thread that is not here."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def position() -> Position | None:
    """Where the running code is, if it is in a run that is open.

    Raises:
        StepTimeout, RunTimeout, Interrupted: it is part of a step that was given up.
    """
    here = _position.get()
    if here is not None:
        check_scope(here.attempt, here.scope)
    return here if here is not None and here.attempt.open and here.attempt.fence.pid == os.getpid() else None


def check_scope(attempt: Attempt, scope: Scope) -> None:
    """Raises if a step was given up, and goes on only because nothing can stop its thread."""
    why = scope.given_up()
    if why is not None:
        raise type(why)(f"run {attempt.run_id!r}: this code is part of a step that was given up: {why}")


class at:
    """The code inside runs at this position. A class: each step enters it."""

    __slots__ = ("_attempt", "_scope", "_token")

    def __init__(self, attempt: Attempt, scope: Scope) -> None:
        self._attempt, self._scope = attempt, scope

    def __enter__(self) -> None:
        self._token = enter(self._attempt, self._scope)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        leave(self._token)


def enter(attempt: Attempt, scope: Scope) -> Token[Position | None]:
    """The code from here on, until ``leave``, runs at this position."""
    return _position.set(Position(attempt, scope))


def leave(token: Token[Position | None]) -> None:
    """Goes back to where the code ran before ``enter``."""
    try:
        _position.reset(token)
    except ValueError:  # left in another context than it was entered in: nothing to put back there
        _position.set(None)


def call_inside(attempt: Attempt, scope: Scope, function: Callable[[], Any]) -> Any:
    """Calls a function at a position; a coroutine runs there too."""
    with at(attempt, scope):
        value = function()
    if hasattr(value, "__await__"):
        return _await_inside(attempt, scope, value)
    return value


async def _await_inside(attempt: Attempt, scope: Scope, awaitable: Any) -> Any:
    with at(attempt, scope):
        return await awaitable


def announce(attempt: Attempt) -> None:
    """The attempt is about to be opened in this process: until ``withdraw``, a lease of its is not a dead one's."""
    with _lock:
        _open[attempt.instance] = attempt


def withdraw(attempt: Attempt) -> None:
    """The attempt is over, and has given its lease back if it could."""
    with _lock:
        _open.pop(attempt.instance, None)


def is_open(instance: str) -> bool:
    """Whether an attempt of this instance id is open in this process."""
    with _lock:
        return instance in _open


def open_attempts() -> list[Attempt]:
    """The attempts that are open in this process, or are being opened. Safe in a signal handler: it takes no lock."""
    return list(_open.values())


def released_here(holder: Holder) -> bool:
    """Whether the holder is this process, and has no such attempt open any more."""
    mine = this_process()
    return (holder.boot, holder.pidns, holder.pid) == (mine.boot, mine.pidns, mine.pid) and not is_open(holder.note)


_remark: str | None = None


def remark(text: str | None) -> None:
    """Has ``warn_if_unrecorded`` warn, and say this, also where no run is open: code is easily taken for a part of one
    that is over. ``None``: no longer.
    """
    global _remark
    _remark = text


def warn_if_unrecorded(what: str, *, stacklevel: int = 3) -> bool:
    """Warns when runs are open in this process and the calling code is in none of them: it is not recorded.

    Returns whether it did.
    """
    with _lock:
        names = sorted({attempt.run_id for attempt in _open.values() if attempt.open})
    why = f"no run is active. {_remark}" if _remark is not None else None
    if names:
        why = (
            f"no run is active in this thread, though {', '.join(map(repr, names))} is open in this process. Threads "
            "do not inherit the current run: give them run.bind(function)."
        )
    if why is not None:
        warnings.warn(f"{what} is not recorded: {why}", NoActiveRunWarning, stacklevel=stacklevel)
    return why is not None

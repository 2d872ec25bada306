"""Which run is the current one, here: a context variable, and the runs that are open in this process."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentcheckpoint.core.journal import Scope
from agentcheckpoint.errors import NoActiveRunWarning

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


def position() -> Position | None:
    """Where the running code is, if it is in a run that is open."""
    here = _position.get()
    return here if here is not None and here.attempt.open and here.attempt.fence.pid == os.getpid() else None


@contextmanager
def at(attempt: Attempt, scope: Scope) -> Generator[None]:
    """The code inside runs at this position."""
    token = _position.set(Position(attempt, scope))
    try:
        yield
    finally:
        _position.reset(token)


def enter(attempt: Attempt) -> object:
    """Makes the attempt the current one until ``leave``."""
    with _lock:
        _open[attempt.instance] = attempt
    return _position.set(Position(attempt, attempt.root))


def leave(attempt: Attempt, token: object) -> None:
    """The attempt is over."""
    with _lock:
        _open.pop(attempt.instance, None)
    try:
        _position.reset(token)  # type: ignore[arg-type]
    except ValueError:  # closed in another context than it was opened in: nothing to put back there
        _position.set(None)


def is_open(instance: str) -> bool:
    """Whether an attempt of this instance id is open in this process."""
    with _lock:
        return instance in _open


def warn_if_unrecorded(what: str, *, stacklevel: int = 3) -> None:
    """Warns when runs are open in this process and the calling code is in none of them: it is not recorded."""
    with _lock:
        names = sorted({attempt.run_id for attempt in _open.values() if attempt.fence.pid == os.getpid()})
    if names:
        warnings.warn(
            f"{what} is not recorded: no run is active in this thread, though {', '.join(map(repr, names))} is open "
            "in this process. Threads do not inherit the current run: give them run.bind(function).",
            NoActiveRunWarning,
            stacklevel=stacklevel,
        )

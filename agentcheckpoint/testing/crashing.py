"""Crash points: an attempt that dies at a moment that a test names, by an exception or by SIGKILL."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Literal, TypeAlias

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.errors import CommitUnknown
from agentcheckpoint.testing.moments import Moment, observed

At: TypeAlias = Literal["before call", "after intent", "before commit", "after commit"]
How: TypeAlias = Literal["exception", "kill"]


_for_ever = ExitStack()
"""What no ``with`` ends."""


class Crashed(BaseException):
    """The process is dead, as far as its runs can tell: nothing more is stored, no lease is given back."""


def kill_after_commits(n: int) -> None:
    """Kill this process by SIGKILL right after the n-th commit that it applies from now on, in whatever run.

    Args:
        n: 1 is the next commit.

    Raises:
        ValueError: ``n`` is less than 1.
    """
    if n < 1:
        raise ValueError(f"the first commit is number 1; there is none with number {n}")
    _for_ever.enter_context(crashing(nth(n, lambda moment: moment.when == "after"), "kill"))


@contextmanager
def crash(step: str, *, at: At = "after commit", how: How = "exception") -> Generator[None]:
    """The code inside dies at a step. The block ends there: go on behind it, with the next life.

    Args:
        step: its slot, such as ``"plan"``, ``"fetch[u1]"``, ``"plan#2"``, ``"outer/inner"``; or a keyed step's name.
        at: ``"before call"`` of its function, or of the model; ``"after intent"``, before something is paid;
            ``"before commit"``, when its function has returned and its answer is paid; ``"after commit"``.
        how: ``"exception"`` unwinds the code by ``Crashed``, and nothing more is stored by any run that is open;
            ``"kill"`` sends this very process SIGKILL: for a child process.

    Raises:
        AssertionError: the moment did not come.
    """
    with expecting(Crashed, f"step {step!r} was not met {at}"), crashing(lambda m: _is_at(m, step, at), how):
        yield


@contextmanager
def expecting(kind: type[BaseException], missing: str) -> Generator[None]:
    """The code inside is to be left by this exception, which goes no further; else ``missing`` is what was wrong."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{missing}: the code inside ended before")


@contextmanager
def crashing(is_it: Callable[[Moment], bool], how: How = "exception") -> Generator[None]:
    """Inside, the process dies at the first moment that is it."""
    dead = list[Attempt]()

    def observe(live: Attempt, moment: Moment) -> None:
        if live in dead or is_it(moment):
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            for each in {*current.open_attempts(), live}:
                dead.append(each)
                each.broken = CommitUnknown("the process crashed here, as the test wanted")  # its end is not stored
            raise Crashed(f"crashed {moment.when} {moment.what} of {moment.slot or 'the run'!r}")

    with observed(observe):
        yield


def nth(n: int, is_it: Callable[[Moment], bool]) -> Callable[[Moment], bool]:
    """The n-th of these moments, from 1; calls from several threads are counted one by one."""
    left, lock = n, threading.Lock()

    def is_the_nth(moment: Moment) -> bool:
        nonlocal left
        with lock:
            left -= is_it(moment)
            return left == 0 and is_it(moment)

    return is_the_nth


def _is_at(moment: Moment, step: str, at: At) -> bool:
    when, _, what = at.partition(" ")
    if not moment.is_of(step) or moment.when != when:
        return False
    if what == "call":  # of a wrapped client's call, its intent is the first that is seen
        return moment.what in ("call", "intent")
    return moment.what == ("intent" if what == "intent" else "done")

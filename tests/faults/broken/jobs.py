"""The life of a run between processes, broken: its tries, its answers, its end, and who finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from agentcheckpoint import answering, opening, taking
from agentcheckpoint.core.doubt import Doubts
from agentcheckpoint.core.tries import Series, Tries
from agentcheckpoint.store import answers
from agentcheckpoint.store.fence import Fence

from ..variants import Single, Variant, doing
from .protocol import _rewriting


@contextmanager
def tries_begin_again() -> Iterator[None]:
    """Whoever goes on with a run counts a step's tries from one."""
    with patch.object(Tries, "series", lambda *_: Series()):
        yield


@contextmanager
def last_answer_wins() -> Iterator[None]:
    """An answer takes the place of the one before."""

    def overwriting(command: Any) -> Any:
        return ("HSET", *command[1:]) if command[0] == "HSETNX" else command

    def nothing(*_: object) -> Any:
        return {}
        yield

    decide = _rewriting(answers.decide_wait, overwriting)
    with patch.object(answering, "decide_wait", decide), patch.object(answering, "what_came", nothing):
        yield


@contextmanager
def deaf() -> Iterator[None]:
    """A worker does not hear that the run's end is asked for."""
    with patch.object(Fence, "hear", lambda *_: None):
        yield


def _nothing(*_: object) -> Any:
    return True
    yield


@contextmanager
def list_left() -> Iterator[None]:
    """Whoever leaves a run does not say in the list when it is due."""
    with patch.object(opening, "list_due", _nothing), patch.object(opening, "list_waiting", _nothing):
        yield


@contextmanager
def taken_unlisted() -> Iterator[None]:
    """Whoever begins a run takes it first, and lists it then."""
    with patch.object(taking, "_announce", _nothing):
        yield


@contextmanager
def no_doubt() -> Iterator[None]:
    """What must not happen twice is called again, whether or not it was begun."""
    with patch.object(Doubts, "of", lambda *_: None):
        yield


def _variant(
    name: str,
    promise: str,
    broken: Callable[[], AbstractContextManager[None]],
    aim: Single | None = None,
) -> Variant:
    return Variant(name, promise, "grid", broken, aim)


VARIANTS = (
    _variant(
        "tries-begin-again",
        "a new process goes on with the tries of a step",
        tries_begin_again,
        lambda agent, fault, clean: doing("retried", "kill")(agent, fault, clean) and fault.n > clean.points * 2 / 3,
    ),
    _variant("last-answer-wins", "the first answer counts", last_answer_wins, doing("answered", "kill-before")),
    _variant("cancel-not-heard", "after a cancellation no more is paid than what was under way", deaf),
    _variant("due-note-forgotten-at-close", "a run is in the list of due ones if it has work", list_left),
    _variant(
        "taken-before-it-is-listed",
        "whoever dies leaves a run that anybody finds",
        taken_unlisted,
        lambda agent, fault, _: (
            not agent.is_job and fault.fate == "kill-after" and fault.place == "r" and 25 < fault.n < 45
        ),
    ),
    _variant("doubt-forgotten", "what has effect='once' does not happen twice", no_doubt, doing("once", "kill")),
)

"""Something that happens around one packet to the server, such as the death of the process that sends it."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from agentcheckpoint.store.wire import Wire

COMPLETED = 7
"""The exit code of a child that nothing killed."""


def moments() -> Iterator[int]:
    """Before packet 1 and after it was answered, before and after packet 2, and so on, as ``around`` takes them."""
    return (sign * n for n in range(1, 99) for sign in (1, -1))


@contextmanager
def around(at: int, what: Callable[[], object]) -> Iterator[None]:
    """``what`` happens before packet number ``at`` is sent, or after number ``-at`` was answered."""
    exchange, sent = Wire.exchange, itertools.count(1)

    def counted(wire: Wire, commands: Any) -> Any:
        n = next(sent)
        if n == at:
            what()
        replies = exchange(wire, commands)
        if n == -at:
            what()
        return replies

    with patch.object(Wire, "exchange", counted):
        yield


def killed(at: int, work: Callable[[], object]) -> bool:
    """Whether a child that does this work is killed there: it is, unless it comes to its end before."""
    child = os.fork()
    if not child:
        try:
            with around(at, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                work()
            os._exit(COMPLETED)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (-signal.SIGKILL, COMPLETED), f"{at}: {code}"
    return code == -signal.SIGKILL

"""A life of an agent in a process of its own, which is killed by SIGKILL at a moment that a case names.

The process is a fork, but not of the one that runs the tests, which has threads, connections and locks: it is forked
from a clean one (Python's ``forkserver``), that has imported the agent's module and done nothing. A new interpreter
would do as well, and would import all of it once more for each case.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.errors import DurabilityWarning
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.testing.crashing import crashing, nth
from agentcheckpoint.testing.moments import Moment, observed

if TYPE_CHECKING:
    from agentcheckpoint.testing.matrix import Bench

PATIENCE = 120
"""Seconds that such a process may live."""


@dataclass(frozen=True, slots=True)
class Away:
    """A provider that serves in another process."""

    url: str


@functools.cache
def embedded_url() -> str:
    """An embedded server for this process's tests, which is gone with it."""
    home, pid = Path(tempfile.mkdtemp(prefix="agentcheckpoint-")), os.getpid()

    def remove() -> None:
        if os.getpid() == pid:
            stop_server(home)
            shutil.rmtree(home, ignore_errors=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DurabilityWarning)  # nothing is to outlive it
        url = ensure_server(home).url
    atexit.register(remove)
    return url


def live_and_die(bench: Bench, life: Callable[[Bench], Any], moment: Moment, n: int) -> list[tuple[str, str, str]]:
    """Lives in a child process that kills itself at that moment, the n-th time that it comes.

    Args:
        bench: its store is a URL of a server that other processes reach.
        life: a function at the top of a module.

    Returns:
        Of each step that it had committed: the namespace, the run's name and the slot.

    Raises:
        TypeError: another process cannot import that life, or reach that store.
        AssertionError: the child came to another end.
    """
    if not isinstance(bench.store, str) or bench.store.startswith("memory:"):
        raise TypeError(f"a process that is killed needs the URL of a real server as its store, not {bench.store!r}")
    away = bench.store, bench.namespace, bench.provider.url
    start = _clean_process(_module_of(life))
    here, there = start.Pipe(duplex=False)
    child = start.Process(target=_child, args=(there, away, life, moment, n))
    child.start()
    there.close()
    seen = list[tuple[str, str, str]]()
    try:
        with suppress(EOFError):
            while here.poll(PATIENCE):
                seen.append(here.recv())
        child.join(1)
        code = child.exitcode
    finally:
        if child.is_alive():
            child.kill()
        child.join()
        here.close()
    if code != -signal.SIGKILL:
        how = "it did not come there again: it does not do the same each time" if code == 0 else f"it ended by {code}"
        raise AssertionError(f"killed {moment.when} {moment.what} of {moment.slot or 'the run'!r}: {how}")
    return seen


@functools.cache
def _clean_process(module: str) -> ForkServerContext:
    """The process that forks; it has imported that module, if it does not run already."""
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload([__name__, "agentcheckpoint.testing.matrix", module])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # it would not find the tests by itself
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return start


def _module_of(life: Callable[[Bench], Any]) -> str:
    module, name = getattr(life, "__module__", ""), getattr(life, "__qualname__", "")
    if getattr(sys.modules.get(module), name, None) is not life:
        raise TypeError(
            f"{life!r} is to run in another process, which imports it: make it a function at a module's top"
        )
    return str(module)


def _child(seen: Connection, away: tuple[str, str, str], life: Callable[[Bench], Any], moment: Moment, n: int) -> None:
    """What the child does."""
    from agentcheckpoint.testing.matrix import Bench, live

    lock = threading.Lock()

    def note(attempt: Attempt, met: Moment) -> None:
        if (met.when, met.what) == ("after", "done"):
            with lock:
                seen.send((attempt.namespace, attempt.run_id, met.slot))

    store, namespace, url = away
    with observed(note), crashing(nth(n, lambda met: met == moment), "kill"):
        live(life, Bench(store, namespace, Away(url)))

"""Who makes a worker's attempts: threads for blocking agents, one event loop for async ones, so many at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

from agentcheckpoint.agents import Agent
from agentcheckpoint.jobs.work import Worked, work_on, work_on_async
from agentcheckpoint.recipe import is_async
from agentcheckpoint.store.store import Store

Ended: TypeAlias = Callable[[Agent[..., Any], str, Worked, float], None]


class Crew:
    """Makes attempts of runs, each once at a time.

    Args:
        size: how many attempts at a time.
        ended: told of each that has ended: agent, run, how the run stands, and the seconds that it took.
    """

    def __init__(self, size: int, ended: Ended) -> None:
        self._size = size
        self._told = ended
        self._runs: set[str] = set()
        self._one_ended = threading.Event()
        self._threads: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="agentcheckpoint-worker")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown()
        if self._loop is not None and self._loop_thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join()
            self._loop = None

    @property
    def busy(self) -> bool:
        """Whether an attempt is under way."""
        return bool(self._runs)

    @property
    def free(self) -> bool:
        """Whether there is room for another."""
        return len(self._runs) < self._size

    def has(self, run_id: str) -> bool:
        """Whether an attempt of that run is under way."""
        return run_id in self._runs

    def wait(self, seconds: float) -> bool:
        """Waits until an attempt ends, or for so many seconds; returns whether one did."""
        ended = self._one_ended.wait(seconds)
        self._one_ended.clear()
        return ended

    def begin(self, agent: Agent[..., Any], run_id: str, store: Store, namespace: str) -> None:
        """Begins an attempt of a run."""
        assert self._threads is not None
        self._runs.add(run_id)
        future: Future[Worked]
        if is_async(agent):
            work = work_on_async(agent, run_id, store=store, namespace=namespace)
            future = asyncio.run_coroutine_threadsafe(work, self._running_loop())
        else:
            future = self._threads.submit(work_on, agent, run_id, store=store, namespace=namespace)
        future.add_done_callback(partial(self._ended, agent, run_id, time.monotonic()))

    def _ended(self, agent: Agent[..., Any], run_id: str, began: float, future: Future[Worked]) -> None:
        try:
            worked = future.result()
        except BaseException as exc:  # it ends the run's attempt, and nothing else
            worked = Worked(None, None, exc)
        try:
            self._told(agent, run_id, worked, time.monotonic() - began)
        finally:
            self._runs.discard(run_id)
            self._one_ended.set()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop_thread = threading.Thread(target=_serve, args=(self._loop,), name="agentcheckpoint-loop")
            self._loop_thread.start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()

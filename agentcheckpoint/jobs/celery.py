"""Agents on Celery: each attempt of a run is a task; what Celery redelivers late or never, its workers sweep up."""

# Celery has no types.
# pyright: basic

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Any

from celery import Celery, signals
from celery.worker import state as worker_state

from agentcheckpoint.agents import Agent
from agentcheckpoint.jobs.engine import AGAIN, SWEEP_EVERY, EngineTasks
from agentcheckpoint.store.connect import Connectable

LEAVE = signal.SIGUSR2
"""By which a worker tells its children that it is about to stop. Celery itself has no word for that."""


class AgentTasks(EngineTasks):
    """Agents whose runs are worked on by Celery's workers. Make it where the app is made: workers import it.

    The task is acknowledged late and redelivered when a child of a worker dies; Celery's own retries are not used: a
    run has its own.

    Args:
        app: the Celery app.
        agents: those that its workers know.
        store: where their runs are kept, as in ``ac.run``.
        namespace: of their runs.
        queue: the queue to send them to; ``None``: as the app routes the task.
        name: the task's.
        sweep_every: seconds between two looks of each worker for runs whose worker has died and for those that are due.
        again: seconds after which a run that was sent and that nobody has begun is sent again. More than messages wait
            in the queue: else it fills with repetitions.
    """

    def __init__(
        self,
        app: Celery,
        agents: Iterable[Agent[..., Any]],
        *,
        store: Connectable = None,
        namespace: str = "default",
        queue: str | None = None,
        name: str = "agentcheckpoint.attempt",
        sweep_every: float = SWEEP_EVERY,
        again: float = AGAIN,
    ) -> None:
        super().__init__(agents, store, namespace, sweep_every, again)
        self._app = app
        self._queue = queue

        def perform(run_id: str, agent: str) -> None:  # Celery takes no method of an object for a task
            self.attempt(run_id, agent)

        self._task: Any = app.task(
            perform, name=name, acks_late=True, reject_on_worker_lost=True, max_retries=0, ignore_result=True
        )
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_process_init.connect(self._on_child, weak=False)
        signals.worker_shutting_down.connect(self._on_shutdown, weak=False)

    def enqueue(self, run_id: str, agent: str) -> None:
        """Sends a run to Celery's workers."""
        self._task.apply_async((run_id, agent), queue=self._queue)

    def _on_ready(self, sender: Any, **_: Any) -> None:
        if sender.app is self._app:
            self.begin_sweeping()

    def _on_child(self, **_: Any) -> None:
        """In a new child of a worker."""
        signal.signal(LEAVE, self._on_leave)

    def _on_leave(self, number: int, frame: FrameType | None) -> None:
        self.leave("the Celery worker shuts down")

    def _on_shutdown(self, **_: Any) -> None:
        """In the worker itself, which may have the runs (threads), or children that do."""
        self.leave("the Celery worker shuts down")
        children = {request.worker_pid for request in worker_state.active_requests if request.name == self._task.name}
        for pid in children - {None, os.getpid()}:
            os.kill(pid, LEAVE)

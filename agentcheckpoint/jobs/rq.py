"""Agents on RQ: each attempt of a run is a job; a worker that dies with it is noticed by the others within seconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Any, ClassVar

from rq import Queue, Worker
from rq.job import Job

from agentcheckpoint.agents import Agent
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.jobs.engine import AGAIN, SWEEP_EVERY, EngineTasks
from agentcheckpoint.store.connect import Connectable

NO_LIMIT = -1
"""RQ's own default kills a job after three minutes."""
KEEP_FAILED = 86_400
"""Seconds for which RQ keeps a job whose process died. Its run is elsewhere, and goes on."""


class AgentTasks(EngineTasks):
    """Agents whose runs are worked on by RQ's workers, which are to be an ``AgentWorker``.

    Args:
        queue: the queue to send them to.
        agents: those that its workers know.
        at: where workers find this very object: ``f"{__name__}.tasks"``.
        store: where their runs are kept, as in ``ac.run``.
        namespace: of their runs.
        sweep_every: seconds between two looks of each worker for runs whose worker has died and for those that are due.
        again: seconds after which a run that was sent and that nobody has begun is sent again. More than messages wait
            in the queue: else it fills with repetitions.
    """

    def __init__(
        self,
        queue: Queue,
        agents: Iterable[Agent[..., Any]],
        *,
        at: str,
        store: Connectable = None,
        namespace: str = "default",
        sweep_every: float = SWEEP_EVERY,
        again: float = AGAIN,
    ) -> None:
        super().__init__(agents, store, namespace, sweep_every, again)
        self._queue = queue
        self.at = at

    def enqueue(self, run_id: str, agent: str) -> None:
        """Sends a run to RQ's workers."""
        if self.at.startswith("__main__."):
            raise RunMisuse(f"at={self.at!r}: a worker cannot import that. Put the tasks into a module of their own.")
        self._queue.enqueue_call(  # pyright: ignore[reportUnknownMemberType]
            self.at, (run_id, agent), timeout=NO_LIMIT, result_ttl=0, failure_ttl=KEEP_FAILED
        )

    def __call__(self, run_id: str, agent: str) -> None:
        """The job."""
        self.attempt(run_id, agent)


class AgentWorker(Worker):
    """A worker of RQ that sweeps, and that passes a warm shutdown on to the run it works on.

    Derive from it beside the tasks: ``class Worker(AgentWorker): tasks = tasks``, and start it by
    ``rq worker --worker-class your_module.Worker``.
    """

    tasks: ClassVar[AgentTasks]
    _on_run = False

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Works until it is told to stop."""
        self.tasks.begin_sweeping()
        try:
            return super().work(*args, **kwargs)
        finally:
            self.tasks.leave("the RQ worker shuts down")

    def execute_job(self, job: Job, queue: Queue) -> None:
        """One job, in a process of its own."""
        self._on_run = job.func_name == self.tasks.at
        super().execute_job(job, queue)

    def handle_warm_shutdown_request(self) -> None:
        """RQ waits for the job to end. A run's next commit is soon; any other job is left to end as it does."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self._on_run and self.horse_pid:
            os.kill(self.horse_pid, signal.SIGTERM)

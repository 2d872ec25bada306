"""Agents on Dramatiq: each attempt of a run is a message; what a dead worker had is swept up within seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dramatiq

from agentcheckpoint.agents import Agent
from agentcheckpoint.jobs.engine import AGAIN, SWEEP_EVERY, EngineTasks
from agentcheckpoint.store.connect import Connectable

OPTIONS: dict[str, Any] = {"max_retries": 0, "time_limit": float("inf")}
"""A run has its own retries; and by default Dramatiq stops an actor after ten minutes, which an agent may well take."""


class AgentTasks(EngineTasks):
    """Agents whose runs are worked on by Dramatiq's workers. Make it in a module that the workers import.

    Args:
        broker: the broker.
        agents: those that its workers know.
        store: where their runs are kept, as in ``ac.run``.
        namespace: of their runs.
        queue: the queue to send them to.
        name: the actor's.
        sweep_every: seconds between two looks of each worker for runs whose worker has died and for those that are due.
        again: seconds after which a run that was sent and that nobody has begun is sent again. More than messages wait
            in the queue: else it fills with repetitions.
    """

    def __init__(
        self,
        broker: dramatiq.Broker,
        agents: Iterable[Agent[..., Any]],
        *,
        store: Connectable = None,
        namespace: str = "default",
        queue: str = "default",
        name: str = "agentcheckpoint_attempt",
        sweep_every: float = SWEEP_EVERY,
        again: float = AGAIN,
    ) -> None:
        super().__init__(agents, store, namespace, sweep_every, again)
        options = {option: value for option, value in OPTIONS.items() if option in broker.actor_options}
        self._actor = dramatiq.actor(actor_name=name, queue_name=queue, broker=broker, **options)(self._perform)
        broker.add_middleware(_WorkerLife(self))

    def enqueue(self, run_id: str, agent: str) -> None:
        """Sends a run to Dramatiq's workers."""
        self._actor.send(run_id, agent)

    def _perform(self, run_id: str, agent: str) -> None:
        self.attempt(run_id, agent)


class _WorkerLife(dramatiq.Middleware):
    """When a worker begins and ends."""

    def __init__(self, tasks: AgentTasks) -> None:
        self._tasks = tasks

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._tasks.begin_sweeping()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._tasks.leave("the Dramatiq worker shuts down")

"""What the adapters for job engines share: a message is a run's id, a task is an attempt, and a sweep closes the gaps.

An engine carries a run's id and its agent's name, no more: all that counts is stored with the run. So a message
that comes twice, late or never does no harm. A run whose message was lost is found in the store and handed over again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ParamSpec, TypeVar

from agentcheckpoint.agents import Agent
from agentcheckpoint.core.ids import check_namespace
from agentcheckpoint.errors import Interrupted, RunBusy, RunCancelled, RunMisuse
from agentcheckpoint.jobs.sweeping import Swept, sweep
from agentcheckpoint.jobs.work import Worked, work_on
from agentcheckpoint.jobs.worker import RELIST_EVERY, by_name, log
from agentcheckpoint.options import check_seconds
from agentcheckpoint.stopping import interrupt
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.index import list_due

P = ParamSpec("P")
R = TypeVar("R")

SWEEP_EVERY = 2.0
"""Seconds between two sweeps of a worker."""
AGAIN = 60.0
"""Seconds after which a run that was sent, and that nobody has begun, is sent again."""


class EngineTasks(ABC):
    """Agents whose runs are worked on by the workers of a job engine.

    Args:
        agents: those that these workers know.
        store: where their runs are kept, as in ``ac.run``.
        namespace: of their runs.
        sweep_every: seconds between two looks of each worker for runs whose worker has died and for those that are due.
        again: seconds after which a run that was sent and that nobody has begun is sent again. More than messages wait
            in the engine's queue: else it fills with repetitions.

    Raises:
        RunMisuse: two agents of one name, or no such interval.
        InvalidName: no such namespace.
    """

    def __init__(
        self, agents: Iterable[Agent[..., Any]], store: Connectable, namespace: str, sweep_every: float, again: float
    ) -> None:
        check_seconds("sweep_every", sweep_every, 0.1, 3600)
        check_seconds("again", again, 0, 86_400)
        self.agents = by_name(agents)
        self.store = store
        self.namespace = check_namespace(namespace)
        self._sweep_every, self._again = sweep_every, again
        self._sweeping: threading.Thread | None = None
        self._leaving = threading.Event()

    def start(self, agent: Agent[P, R], id: str, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Stores a run with its arguments, and sends its id to the engine. Done twice, the run is there once.

        If the second half is lost, a worker's sweep makes good for it, after ``again`` seconds.

        Args:
            agent: one of ``agents``.
            id: the run's name. The agent's own arguments follow.

        Returns:
            Whether it was made now; ``False``: there is such a run already, of the same arguments.

        Raises:
            RunMisuse: the workers do not know this agent.
            Exception: what ``agent.submit`` raises, and what the engine raises when its broker does not answer.
        """
        if agent.name not in self.agents:
            raise RunMisuse(f"agent {agent.name!r} is not among agents=: no worker would know what to call.")
        made = agent.using(store=self.store, namespace=self.namespace).submit(id, *args, **kwargs)
        if made:  # it is due, and about to be sent: no sweep is to send it, too
            look_ms = int((time.time() + self._again) * 1000)
            connect(self.store).run(list_due(self.namespace, id, look_ms))
        self.enqueue(id, agent.name)
        return made

    @abstractmethod
    def enqueue(self, run_id: str, agent: str) -> None:
        """Sends a run to the engine's workers."""

    def attempt(self, run_id: str, agent: str) -> Worked | None:
        """What the engine's task does: one attempt of the run. What is the run's own affair is logged, never raised.

        When it goes on at a later time, the sweep sees to that: it is the one clock, on every engine.

        Returns:
            How it went; ``None``: it was not begun, as this worker is about to leave, or does not know the agent.

        Raises:
            Exception: what ``work_on`` raises, and what the engine raises when its broker does not answer.
        """
        if self._leaving.is_set():
            return None
        if agent not in self.agents:
            log.warning("run %r is of agent %r, which is not among agents=: it is left to others.", run_id, agent)
            return None
        worked = work_on(self.agents[agent], run_id, store=self.store, namespace=self.namespace)
        _tell(run_id, agent, worked)
        if worked.state == "interrupted" and isinstance(worked.error, Interrupted):
            self.enqueue(run_id, agent)  # whoever stays goes on at once
        return worked

    def sweep(self, *, all: bool = False) -> Swept:
        """Looks once for runs that are due or whose worker has died, and sends them. ``all``: as in ``ac.sweep``."""
        return sweep(store=self.store, namespace=self.namespace, hand_over=self.enqueue, again=self._again, all=all)

    def begin_sweeping(self) -> None:
        """A worker is there: it sweeps from now on, on a thread of its own."""
        if self._sweeping is None or not self._sweeping.is_alive():
            self._leaving.clear()
            self._sweeping = threading.Thread(target=self._sweep_on, name="agentcheckpoint-sweep", daemon=True)
            self._sweeping.start()

    def leave(self, reason: str) -> None:
        """The process is to stop: open attempts end at their next commit and give their runs back; none begins."""
        self._leaving.set()
        interrupt(reason)

    def _sweep_on(self) -> None:
        relist_at = time.monotonic() + RELIST_EVERY * random.random()
        while not self._leaving.wait(self._sweep_every * random.uniform(0.5, 1.0)):  # workers do not march in step
            relists = time.monotonic() >= relist_at
            try:
                self.sweep(all=relists)
            except Exception as exc:  # the store or the broker is away: the next one may find it back
                log.warning("a sweep of namespace %r failed: %s", self.namespace, exc)
                continue
            if relists:
                relist_at = time.monotonic() + RELIST_EVERY


def _tell(run_id: str, agent: str, worked: Worked) -> None:
    """Logs how an attempt went: an engine takes its task for done, whatever became of the run."""
    error = worked.error
    failed = isinstance(error, Exception) and not isinstance(error, RunBusy | RunCancelled)
    log.log(
        logging.WARNING if failed else logging.INFO,
        "run %r of %s: %s%s",
        run_id,
        agent,
        worked.state,
        f", {error!r}" * bool(error),
        exc_info=error if failed else None,
    )

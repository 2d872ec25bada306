"""One attempt of a stored run of a decorated agent, for whoever works on runs: a worker, or an engine's task."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from agentcheckpoint.agents import Agent
from agentcheckpoint.core.lifecycle import Standing, leaves
from agentcheckpoint.core.models import RunState
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import (
    CheckpointCorrupt,
    CheckpointsLost,
    Interrupted,
    RunNotFound,
    SchemaTooNew,
    Suspended,
)
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.due import standing_of
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.view import address_of


@dataclass(frozen=True, slots=True)
class Worked:
    """How a run stands after somebody has worked on it, or tried to.

    Attributes:
        state: as it is stored; ``None``: there is no such run any more, or what is stored of it cannot be read.
        due_ms: when somebody should look at it again, milliseconds since the epoch on the server's clock; ``None``: it
            does not go on by itself.
        error: what ended the attempt, or kept it from beginning: what the agent raised, ``Suspended``,
            ``Interrupted``, ``RunBusy``, ``RunCancelled``, ...; ``None``: the run is completed.
    """

    state: RunState | None
    due_ms: int | None
    error: BaseException | None


def work_on(agent: Agent[..., Any], run_id: str, *, store: Connectable = None, namespace: str = "default") -> Worked:
    """Makes one attempt of a run that is stored, with the arguments that are stored for it. Blocking.

    An async agent runs on an event loop of its own.

    Args:
        agent: whose run it is.
        run_id: which run.
        store, namespace: as in ``ac.run``.

    Returns:
        How it went. What is the run's own affair is never raised: a failure, a wait, an interrupt, another worker.

    Raises:
        InvalidName, InvalidStore, NotInstalled.
        StoreUnavailable, StoreRefused: how the run stands cannot be read; what it had recorded is there.
        BaseException: what ends more than a run: ``KeyboardInterrupt``, ``SystemExit``, a cancellation.
    """
    mine = agent.using(store=store, namespace=namespace, wait=0.0, on_existing="must")
    error: BaseException | None = None
    try:
        result = mine.attempt(run_id)
        if asyncio.iscoroutine(result):
            asyncio.run(result)
    except BaseException as exc:
        error = _own_affair(exc)
    return connect(store).run(_worked(run_id, namespace, error))


async def work_on_async(
    agent: Agent[..., Any], run_id: str, *, store: Connectable = None, namespace: str = "default"
) -> Worked:
    """The same on the running event loop. A blocking agent runs in a thread."""
    mine = agent.using(store=store, namespace=namespace, wait=0.0, on_existing="must")
    error: BaseException | None = None
    try:
        result = await asyncio.to_thread(mine.attempt, run_id)  # it reads the arguments; of an async agent, no more
        if asyncio.iscoroutine(result):
            await result
    except BaseException as exc:
        error = _own_affair(exc)
    where = await asyncio.to_thread(connect, store)
    return await where.run_async(_worked(run_id, namespace, error))


def _own_affair(error: BaseException) -> BaseException:
    """The error, if it ends no more than the run; else it is raised."""
    if all(isinstance(end, Exception | Suspended | Interrupted) for end in leaves(error)):
        return error
    raise error


def _worked(run_id: str, namespace: str, error: BaseException | None) -> Protocol[Worked]:
    try:
        standing, now = yield from standing_of(address_of(run_id, namespace), released_here)
    except (RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew) as exc:
        return Worked(None, None, error or exc)
    return Worked(standing.state, _look_again(standing, now), error)


def _look_again(standing: Standing, now_ms: int) -> int | None:
    if standing.held_ms is not None:
        return now_ms + max(standing.held_ms, 1)
    return now_ms if standing.state in ("running", "interrupted") else standing.due_ms

"""Changing a run from outside: its end asked for and noted, or a run that stands still made to go on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.lifecycle import ENDED
from agentcheckpoint.core.models import Closed, Failure, Revived
from agentcheckpoint.errors import LeaseLost, RunBusy, RunMisuse
from agentcheckpoint.options import RunOptions
from agentcheckpoint.store.asking import ask_end, take_back
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.index import list_due
from agentcheckpoint.store.store import Store
from agentcheckpoint.taking import end_attempt, leave_as_it_is, revive, take_run


def cancel(run_id: str, /, *, reason: str = "", store: Connectable = None, namespace: str = "default") -> bool:
    """Asks for a run's end, and ends it at once if nobody works on it. Blocking.

    A worker that is at it ends its attempt at its next commit, by ``Interrupted``: what is paid is recorded. What the
    run has recorded stays, and ``ac.retry`` lets it go on. Done twice, it is done once.

    Args:
        run_id: the run's name.
        reason: why, for people.
        store, namespace: as in ``ac.run``.

    Returns:
        Whether the run is cancelled now; ``False``: its worker is told, and ends it soon.

    Raises:
        RunMisuse: it has ended otherwise.
        RunNotFound, RunDeleted, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, CommitUnknown, StoreRefused,
            StoreUnavailable.
    """
    where, attempt = connect(store), Attempt(None, run_id, RunOptions(namespace=namespace))
    state: str = where.run(ask_end(attempt.fence, reason))
    if state not in ENDED:
        try:
            state = end_cancelled(run_id, where, namespace, reason)
        except (RunBusy, LeaseLost):
            return False
    if state != "cancelled":
        raise RunMisuse(f"run {run_id!r} cannot be cancelled: it is {state}. Nothing was changed.", run_id=run_id)
    return True


def end_cancelled(run_id: str, store: Store, namespace: str, reason: str = "") -> str:
    """Ends a run whose end was asked for, unless it has ended by itself meanwhile; returns its state then.

    Raises:
        RunBusy, LeaseLost: somebody works on it.
        StoreError: it cannot be read, or its end could not be stored.
    """
    attempt = Attempt(store, run_id, RunOptions(namespace=namespace))
    with taken(attempt, store):
        if attempt.state in ENDED:
            if attempt.state != "cancelled":
                store.run(take_back(attempt.fence))
            store.run(leave_as_it_is(attempt))
        else:
            why = Failure(type="RunCancelled", message=reason or "its end was asked for")
            closed = Closed(id=new_id(), at=attempt.now_ms(), state="cancelled", error=why)
            store.run(end_attempt(attempt, closed))
        store.run(list_due(namespace, run_id, None))
    return attempt.state


def retry(run_id: str, /, *, store: Connectable = None, namespace: str = "default") -> None:
    """Lets a run go on now that failed, was cancelled or waits for its next try or its time. Blocking.

    What it has recorded stays, and is replayed. Nothing is run here: it is due, for a worker to find, or is opened by
    whoever has its code. A run that waits for an answer goes on waiting for it.

    Args:
        run_id: the run's name.
        store, namespace: as in ``ac.run``.

    Raises:
        RunMisuse: it is completed.
        RunBusy: somebody works on it.
        RunNotFound, RunDeleted, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, CommitUnknown, StoreRefused,
            StoreUnavailable.
    """
    where = connect(store)
    attempt = Attempt(where, run_id, RunOptions(namespace=namespace))
    with taken(attempt, where):
        if attempt.state == "completed":
            where.run(leave_as_it_is(attempt))
            raise RunMisuse(
                f"run {run_id!r} is completed: there is nothing to retry. Opened again it replays; "
                "on_existing='fresh' begins it anew.",
                run_id=run_id,
            )
        # In this order: if this dies in between, the run is still cancelled, and this can be done again.
        where.run(take_back(attempt.fence))
        now = attempt.now_ms()
        where.run(revive(attempt, Revived(id=new_id(), at=now)))
        where.run(list_due(namespace, run_id, now))


@contextmanager
def taken(attempt: Attempt, store: Store) -> Generator[None]:
    """The run is claimed inside, which is no attempt of it."""
    current.announce(attempt)
    try:
        store.run(take_run(attempt, 0, counted=False))
        yield
    finally:
        attempt.open = False
        current.withdraw(attempt)

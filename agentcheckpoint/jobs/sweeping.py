"""Finding the runs that are due, whoever was to work on them: submitted, interrupted, waiting, or left by the dead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from agentcheckpoint.core import ids
from agentcheckpoint.current import released_here
from agentcheckpoint.jobs.looking import Looked, look_at
from agentcheckpoint.options import check_seconds
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.due import due_runs, left_by_dead, note_look, relist, unlisted
from agentcheckpoint.store.index import PAGE, listed_runs
from agentcheckpoint.store.store import Store

AGAIN = 30.0
"""Seconds after which a run that was handed over, and that nobody has begun, is handed over again."""
LIMIT = 1000

HandOver: TypeAlias = Callable[[str, str], object]
"""Gives a run to whoever works on it: called with its id and its agent's name."""


@dataclass(slots=True)
class Swept:
    """What a sweep found.

    Attributes:
        due: the runs that are due, by their ids, with the names of their agents; those that were handed over, if there
            was somebody to hand them to.
        unowned: runs that are due and of no agent: only who opened them by ``ac.run`` can go on with them.
        cancelled: runs that were ended here, since their end had been asked for.
        unreadable: runs that cannot be read, and why.
        later: how many have time, or are being worked on after all.
        relisted: how many had been missing in the list of due runs.
        more: there may be more of them: ``limit`` was reached.
    """

    due: dict[str, str] = field(default_factory=dict[str, str])
    unowned: list[str] = field(default_factory=list[str])
    cancelled: list[str] = field(default_factory=list[str])
    unreadable: dict[str, Exception] = field(default_factory=dict[str, Exception])
    later: int = 0
    relisted: int = 0
    more: bool = False


def sweep(
    *,
    store: Connectable = None,
    namespace: str = "default",
    hand_over: HandOver | None = None,
    limit: int = LIMIT,
    again: float = AGAIN,
    all: bool = False,
) -> Swept:
    """Finds the runs that are due. Anyone may sweep, at any time, and several at once. Blocking.

    Due are runs whose worker has died, that were interrupted, answered or submitted, and those whose time has come. A
    run whose end was asked for while nobody works on it is ended.

    Args:
        store, namespace: as in ``ac.run``.
        hand_over: called with the id and the agent's name of each run that is due. It may be called again for the same
            run, by another sweep: whoever comes second to a run meets ``RunBusy``. Without it, they are only reported.
        limit: how many runs to look at.
        again: seconds after which a run that was handed over and that nobody has begun is handed over again.
        all: look first through the list of all runs for such as should be in the list of due ones, and are not. That
            takes time for each run there is, and is needed only now and then: if a server was restored, or rolled back.

    Returns:
        What was found.

    Raises:
        RunMisuse, InvalidName: before anything is asked.
        StoreRefused, StoreUnavailable.
        Exception: what ``hand_over`` raises. The run is handed over again later.
    """
    check_seconds("again", again, 0, 86_400)
    where, found = connect(store), Swept()
    if all:
        found.relisted = list_missing(where, namespace)
    due = where.run(due_runs(ids.check_namespace(namespace), 0, limit))
    found.more = due.more
    for run in (*due.runs, *where.run(left_by_dead(namespace, due.ahead, released_here))):
        looked = look_at(where, namespace, run, due.now_ms)
        if looked.what == "go" or looked.what == "unreadable":
            later = looked.now_ms + int(again * 1000)
            # Of several sweeps at once, one is told that the run is its to hand over.
            if hand_over is not None and not where.run(note_look(namespace, run, later)):
                continue
        _count(found, run.run_id, looked)
        if hand_over is not None and looked.what == "go" and looked.agent is not None:
            hand_over(run.run_id, looked.agent)
    return found


def _count(found: Swept, run_id: str, looked: Looked) -> None:
    if looked.what == "go":
        if looked.agent is not None:
            found.due[run_id] = looked.agent
        else:
            found.unowned.append(run_id)
    elif looked.what == "cancelled":
        found.cancelled.append(run_id)
    elif looked.what == "unreadable" and looked.error is not None:
        found.unreadable[run_id] = looked.error
    elif looked.what == "later":
        found.later += 1


def list_missing(where: Store, namespace: str) -> int:
    """Lists runs as due on which there may be work, and that no list of due runs names; returns how many."""
    relisted = 0
    runs = listed_runs(where, namespace)
    while page := list(islice(runs, PAGE)):
        for run_id in where.run(unlisted(namespace, page)):
            relisted += where.run(relist(namespace, run_id))
    return relisted

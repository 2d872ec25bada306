"""One look at a run of the due list: whether there is work on it; what is wrong in the list is put right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agentcheckpoint.core.lifecycle import what_to_do
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import (
    CheckpointCorrupt,
    CheckpointsLost,
    InvalidName,
    RunBusy,
    RunDeleted,
    RunNotFound,
    SchemaTooNew,
)
from agentcheckpoint.jobs.ending import end_cancelled
from agentcheckpoint.store.answers import is_answered
from agentcheckpoint.store.due import note_look, standing_of
from agentcheckpoint.store.index import Listed
from agentcheckpoint.store.store import Store
from agentcheckpoint.view import address_of


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at a listed run has shown.

    Attributes:
        what: there is work on it (``go``), or will be (``later``), or none (``none``: it has ended, waits without an
            end, or is gone); its end had been asked for, and is noted now (``cancelled``); or it cannot be read.
        now_ms: the server's clock then, milliseconds since the epoch.
        agent: whose run it is; ``None``: it was opened by ``ac.run``.
        error: why it cannot be read.
    """

    what: Literal["go", "later", "none", "cancelled", "unreadable"]
    now_ms: int
    agent: str | None = None
    error: Exception | None = None


def look_at(store: Store, namespace: str, run: Listed, now_ms: int) -> Looked:
    """Looks at a listed run. If there is no work on it now, the list says so from then on.

    Raises:
        StoreRefused, StoreUnavailable.
    """
    try:
        standing, now = store.run(standing_of(address_of(run.run_id, namespace), released_here))
        what, at = what_to_do(standing, now)
        if standing.state == "waiting" and standing.held_ms is None and what != "go":
            what = "go" if store.run(is_answered(address_of(run.run_id, namespace))) else what
        if what == "go" and standing.cancelled:
            end_cancelled(run.run_id, store, namespace)
            return Looked("cancelled", now, standing.agent)
    except (RunNotFound, RunDeleted, InvalidName):
        store.run(note_look(namespace, run, None))
        return Looked("none", now_ms)
    except (CheckpointCorrupt, CheckpointsLost, SchemaTooNew) as exc:
        return Looked("unreadable", now_ms, error=exc)
    except RunBusy:
        return Looked("later", now_ms)
    if what == "go":
        return Looked("go", now, standing.agent)
    store.run(note_look(namespace, run, at if what == "later" else None))
    return Looked("later" if what == "later" else "none", now, standing.agent)

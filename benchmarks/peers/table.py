"""The peers: what runs each, where it keeps its steps, and what it does more or less than agentcheckpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ..servers import server
from .postgres import postgres

DRIVERS = Path(__file__).parent / "drivers"


def _valkey() -> AbstractContextManager[str]:
    return server("always")


def _directory() -> AbstractContextManager[str]:
    return tempfile.TemporaryDirectory(prefix="agentcheckpoint-bench-")


@dataclass(frozen=True)
class Peer:
    """One of what is compared.

    Attributes:
        driver: the file in ``drivers/`` that does the work, without its ending.
        place: starts what it keeps its steps in, and gives the address.
        differs: what it does, and more or less than agentcheckpoint, for the page.
        foreign: it runs in the peers' environment; only agentcheckpoint runs in this one.
    """

    name: str
    driver: str
    place: Callable[[], AbstractContextManager[str]]
    differs: str
    foreign: bool = True


OURS = Peer(
    "agentcheckpoint",
    "ours",
    _valkey,
    "One transaction for each step: its record, its result, the ledger and the lease, refused to a worker that was "
    "replaced. One round trip over TCP, one sync. A resume compares each step with what was recorded.",
    foreign=False,
)
PEERS = (
    OURS,
    Peer(
        "redis-py, bare",
        "bare_redis",
        _valkey,
        "Less: a line and a result in one `MULTI`/`EXEC`, by any worker, and nothing is checked. Its resume only reads "
        "and decodes. One round trip, one sync.",
    ),
    Peer(
        "DBOS, SQLite",
        "dbos_sqlite",
        _directory,
        "In the agent's process, without a network, and so on one machine. SQLite's rollback journal, with about four "
        "syncs a step. A resume looks each step up by itself. More: queues, and schedules. No ledger.",
    ),
    Peer(
        "LangGraph, SQLite",
        "langgraph_graph",
        _directory,
        "In the agent's process, without a network. After each superstep a snapshot of the whole state (here a counter "
        "and the last result, so it does not grow), in two commits with a sync each. A resume reads the last snapshot "
        "and no step before it. Nothing keeps a second worker out. No ledger.",
    ),
    Peer(
        "LangGraph `@task`, SQLite",
        "langgraph_tasks",
        _directory,
        "The same saver, with one sync a step. The next step begins before that: another thread writes, and a crash "
        "may lose what it has not written. Measured until all is written.",
    ),
    Peer(
        "redflow",
        "redflow_worker",
        _valkey,
        "Redis too, fenced by a lease; asyncio alone. Each step is looked up, noted when it begins and when it ends, "
        "and traced: four round trips, three syncs. A resume looks each step up by itself. More: a queue, and events. "
        "No ledger.",
    ),
    Peer(
        "Absurd, Postgres",
        "absurd_postgres",
        postgres,
        "Postgres over TCP, with a claim like our lease. Each step is looked up, then stored: two round trips, one "
        "sync. A resume loads all results at once. More: a queue, and events. No ledger.",
    ),
)

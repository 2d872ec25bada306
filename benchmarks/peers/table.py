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
        differs: what it does more or less than agentcheckpoint, for the page.
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
    "One transaction for each step: record, result, ledger and lease, refused to a worker that was replaced. One "
    "round trip over TCP, one sync.",
    foreign=False,
)
PEERS = (
    OURS,
    Peer(
        "redis-py, bare",
        "bare_redis",
        _valkey,
        "Less: a line and a result in one `MULTI`/`EXEC`. Any worker may write, nothing is checked, and its resume is "
        "only a read. One round trip, one sync.",
    ),
    Peer(
        "DBOS, SQLite",
        "dbos_sqlite",
        _directory,
        "In process, no network: one machine. A rollback journal, whose commit takes several syncs. More: workflows "
        "wait in queues. No ledger.",
    ),
    Peer(
        "LangGraph, SQLite",
        "langgraph_graph",
        _directory,
        "In process, no network. A snapshot of the whole state after each superstep (here a counter and the last "
        "result, so it does not grow), which a resume reads alone. Nothing keeps a second worker out. No ledger.",
    ),
    Peer(
        "LangGraph `@task`, SQLite",
        "langgraph_tasks",
        _directory,
        "The same saver. A step goes on before its result is on disk: another thread writes it, so a crash may lose "
        "the last ones. Measured until all are written.",
    ),
    Peer(
        "redflow",
        "redflow_worker",
        _valkey,
        "Redis too, fenced by a lease. Asyncio only. A step is looked up, noted when it begins, when it ends, and "
        "traced: each a round trip, each write a sync. A resume reads step by step. No ledger.",
    ),
    Peer(
        "Absurd, Postgres",
        "absurd_postgres",
        postgres,
        "Postgres over TCP, a claim like our lease. A step is looked up, then stored: two round trips, one sync. A "
        "resume loads all results at once. No ledger.",
    ),
)

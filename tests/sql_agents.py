"""An agent with a SQL step, in a process of its own that dies, or stops, at a named point of it.

    python tests/sql_agents.py STORE DATABASE POINT RUN

``DATABASE`` is the path of a SQLite file, or a conninfo of PostgreSQL. It prints the result and the attempt's number.
A stopped one never hears that it has lost its run: only the database stands between it and a second transfer.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import warnings
from typing import Any

import agentcheckpoint as ac
from agentcheckpoint import attempt
from agentcheckpoint.sql import databases

POINTS = ("inside", "before insert", "before commit", "between the commits", "after both")
DIE = signal.SIGKILL


def connect(database: str) -> Any:
    if database.startswith("host="):
        import psycopg

        return psycopg.connect(database)
    return sqlite3.connect(database, timeout=30)


def transfer(connection: Any, amount: int) -> int:
    reach("asked")
    connection.execute(f"UPDATE account SET balance = balance - {amount} WHERE name = 'a'")
    reach("inside")
    connection.execute(f"UPDATE account SET balance = balance + {amount} WHERE name = 'b'")
    return amount


def reach(point: str) -> None:
    if point == sys.argv[3].removesuffix(" stopped"):
        os.kill(os.getpid(), signal.SIGSTOP if sys.argv[3].endswith(" stopped") else DIE)


def hooked(kind: type[Any]) -> None:
    """Points around the verbs of a kind of connection."""
    execute, commit = kind.execute, kind.commit

    def execute_at(self: Any, sql: str, values: Any) -> Any:
        if sql.startswith("INSERT"):
            reach("before insert")
        return execute(self, sql, values)

    def commit_at(self: Any) -> Any:
        reach("before commit")
        commit(self)
        reach("between the commits")

    kind.execute, kind.commit = execute_at, commit_at


def main() -> None:
    warnings.simplefilter("ignore")
    url, database = sys.argv[1:3]
    hooked(databases._Sqlite)
    hooked(databases._Psycopg)
    attempt.after_commit.append(lambda _, change: reach("after both") if change.entry.k == "done" else None)  # type: ignore[attr-defined]
    if sys.argv[3].endswith(" stopped"):
        attempt.Attempt.check = lambda self: None  # type: ignore[method-assign]
    connection = connect(database)
    with ac.run(sys.argv[4], store=url, lease=1, wait=60) as run:
        print(run.sql_finish("transfer", connection, transfer, 10), run.attempt)


if __name__ == "__main__":
    main()

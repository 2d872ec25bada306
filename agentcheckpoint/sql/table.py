"""Making the table of steps in a user's database, and pruning it."""

from __future__ import annotations

import datetime
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any

from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.sql.databases import Database, database
from agentcheckpoint.sql.rows import CREATE_TABLE, PRUNE


def create_table(connection: object) -> None:
    """Makes the table ``agentcheckpoint_steps`` if it is not there, in a transaction of its own.

    Raises:
        RunMisuse: it is no blocking connection, or has a transaction open.
    """
    _in_transaction(connection, CREATE_TABLE, {})


async def create_table_async(connection: object) -> None:
    """The same, over an async connection."""
    await _in_transaction_async(connection, CREATE_TABLE, {})


def prune(connection: object, *, older_than: datetime.timedelta) -> None:
    """Deletes the rows of runs whose last SQL step is older than that, in a transaction of its own.

    A row is needed until its run's record in Redis is there, so for as long as a run may lie unfinished: if it is
    pruned before, its step happens again.
    """
    _in_transaction(connection, PRUNE, _before(older_than))


async def prune_async(connection: object, *, older_than: datetime.timedelta) -> None:
    """The same, over an async connection."""
    await _in_transaction_async(connection, PRUNE, _before(older_than))


def _before(age: datetime.timedelta) -> dict[str, int]:
    return {"before": int((time.time() - age.total_seconds()) * 1000)}


def idle(connection: object) -> Database:
    """The verbs of a connection on which no transaction is open. Raises ``RunMisuse`` if one is."""
    found = database(connection)
    if found.busy():
        raise RunMisuse(
            "a transaction is open on this connection already: agentcheckpoint begins and commits its own, so that it "
            "knows when the step is done. Commit or roll back first (a read begins one, too), or give it another "
            "connection; a sqlite3 connection must not be of autocommit=False."
        )
    return found


def _in_transaction(connection: object, sql: str, values: Mapping[str, Any]) -> None:
    found = idle(connection)
    if found.is_async:
        raise RunMisuse(f"{type(connection).__qualname__} is async: use the function whose name ends in _async.")
    found.begin()
    try:
        found.execute(sql, values)
        found.commit()
    except BaseException:
        found.rollback()
        raise


async def _in_transaction_async(connection: object, sql: str, values: Mapping[str, Any]) -> None:
    found = idle(connection)
    await _done(found.begin)
    try:
        await _done(lambda: found.execute(sql, values))
        await _done(found.commit)
    except BaseException:
        await _done(found.rollback)
        raise


async def _done(verb: Callable[[], Any]) -> None:
    value = verb()
    if inspect.isawaitable(value):
        await value

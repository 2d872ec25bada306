"""Users' own connections, of each library and colour, behind five verbs. What is awaitable there is awaitable here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from agentcheckpoint.errors import RunMisuse

Rows = Sequence[Sequence[Any]]


class Database(Protocol):
    """A user's connection or session. Each verb but ``busy`` returns its value, or an awaitable of it."""

    is_async: bool

    def busy(self) -> bool:
        """Whether a transaction is open."""
        ...

    def begin(self) -> Any: ...
    def execute(self, sql: str, values: Mapping[str, Any]) -> Any: ...
    def commit(self) -> Any: ...
    def rollback(self) -> Any: ...


def _then(value: Any, follow: Callable[[Any], Any]) -> Any:
    if not inspect.isawaitable(value):
        return follow(value)

    async def wait() -> Any:
        followed = follow(await value)
        return await followed if inspect.isawaitable(followed) else followed

    return wait()


class _Sqlite:
    """Of the standard library. Transactions are said in SQL: ``commit()`` means nothing in its autocommit mode."""

    is_async = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def busy(self) -> bool:
        return bool(self._connection.in_transaction)

    def begin(self) -> Any:
        return self._connection.execute("BEGIN IMMEDIATE")

    def execute(self, sql: str, values: Mapping[str, Any]) -> Any:
        return self._connection.execute(sql, values).fetchall()

    def commit(self) -> Any:
        return self._connection.execute("COMMIT")

    def rollback(self) -> Any:
        return self._connection.execute("ROLLBACK") if self.busy() else None


class _Psycopg:
    """Of psycopg 3, in either colour."""

    def __init__(self, connection: Any, *, is_async: bool) -> None:
        self._connection = connection
        self.is_async = is_async

    def busy(self) -> bool:
        return int(self._connection.info.transaction_status) != 0  # anything but IDLE

    def begin(self) -> Any:
        return self._connection.execute("BEGIN") if self._connection.autocommit else None  # else it begins by itself

    def execute(self, sql: str, values: Mapping[str, Any]) -> Any:
        def rows(cursor: Any) -> Any:
            return cursor.fetchall() if cursor.description else []

        cursor = self._connection.cursor(row_factory=_as_tuple)
        return _then(cursor.execute(re.sub(r":([a-z]+)", r"%(\1)s", sql), values), rows)

    def commit(self) -> Any:
        return self._connection.commit()

    def rollback(self) -> Any:
        return self._connection.rollback()


def _as_tuple(cursor: Any) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A row factory: the connection may have one of the user's."""
    return tuple


class _Alchemy:
    """Of SQLAlchemy 2: a connection or a session, in either colour."""

    def __init__(self, connection: Any, *, is_async: bool) -> None:
        self._connection = connection
        self.is_async = is_async

    def busy(self) -> bool:
        return bool(self._connection.in_transaction())

    def begin(self) -> Any:
        return self._connection.begin()

    def execute(self, sql: str, values: Mapping[str, Any]) -> Any:
        from sqlalchemy import text

        def rows(result: Any) -> Any:
            return result.all() if result.returns_rows else []

        return _then(self._connection.execute(text(sql), dict(values)), rows)

    def commit(self) -> Any:
        return self._connection.commit()

    def rollback(self) -> Any:
        return self._connection.rollback()


def database(connection: object) -> Database:
    """The verbs of a user's connection.

    Raises:
        RunMisuse: it is none that is known.
    """
    for base in type(connection).__mro__:
        root, name = base.__module__.partition(".")[0], base.__name__
        if (root, name) == ("sqlite3", "Connection"):
            return _Sqlite(connection)
        if root == "psycopg" and name in ("Connection", "AsyncConnection"):
            return _Psycopg(connection, is_async=name == "AsyncConnection")
        if root == "sqlalchemy" and name in ("Connection", "Session", "AsyncConnection", "AsyncSession"):
            return _Alchemy(connection, is_async=name.startswith("Async"))
    raise RunMisuse(
        f"{type(connection).__module__}.{type(connection).__qualname__} is no connection that agentcheckpoint knows: "
        "give it a sqlite3 or psycopg 3 connection, or a connection or session of SQLAlchemy 2."
    )

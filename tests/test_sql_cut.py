"""A SQL step whose connection to PostgreSQL is cut around its COMMIT: its work is done once all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import psycopg
import pytest
import sql_agents
import sqlalchemy as sa
from cut_postgres import Cutter, cutter
from memory_runs import fresh, logged
from postgres import postgres

import agentcheckpoint as ac
from agentcheckpoint import sql
from agentcheckpoint.core.models import Done


@pytest.fixture(scope="module")
def conninfo() -> Iterator[str]:
    with postgres() as running:
        yield running


@pytest.fixture
def relay(conninfo: str) -> Iterator[Cutter]:
    """In front of an empty table of transfers."""
    connection = sql_agents.connect(conninfo)
    connection.execute("DROP TABLE IF EXISTS moved, agentcheckpoint_steps")
    connection.execute("CREATE TABLE moved (amount INT)")
    connection.commit()
    sql.create_table(connection)
    connection.close()
    with cutter(conninfo) as running:
        yield running


def move(connection: Any, amount: int) -> int:
    statement = f"INSERT INTO moved VALUES ({amount})"
    connection.execute(sa.text(statement) if isinstance(connection, sa.Connection) else statement)
    return amount


def moved(conninfo: str) -> list[int]:
    with psycopg.connect(conninfo) as connection:
        return [amount for (amount,) in connection.execute("SELECT amount FROM moved").fetchall()]


def cut_and_resumed(relay: Cutter, where: Literal["before", "after"]) -> tuple[str, int]:
    """The store after an attempt whose connection was cut at its COMMIT and one that was not; steps known between."""
    url = fresh()
    connection = psycopg.connect(relay.conninfo)
    with pytest.raises(psycopg.OperationalError), ac.run("r", store=url) as run:
        relay.cut = where
        run.sql_step("move", connection, move, 10)
    connection.close()
    assert relay.has_cut == 1
    known = len(logged(url, "r", Done))
    with ac.run("r", store=url) as run, psycopg.connect(relay.conninfo) as connection:
        assert run.sql_step("move", connection, move, 10) == 10
    return url, known


@pytest.mark.parametrize("where", ["before", "after"])
def test_the_next_attempt_asks_the_database_whether_its_commit_landed(
    conninfo: str, relay: Cutter, where: Literal["before", "after"]
) -> None:
    url, known = cut_and_resumed(relay, where)
    assert known == 0, "nobody says that it is done before the database was asked"
    assert moved(conninfo) == [10] and len(logged(url, "r", Done)) == 1


def test_without_its_row_what_was_committed_is_done_again(
    conninfo: str, relay: Cutter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("ALTER TABLE agentcheckpoint_steps DROP CONSTRAINT agentcheckpoint_steps_pkey")
    monkeypatch.setattr("agentcheckpoint.sql.stepping.parse_row", lambda *_: None)
    cut_and_resumed(relay, "after")
    assert moved(conninfo) == [10, 10]


def test_a_connection_that_connects_again_finds_its_own_row_at_once(conninfo: str, relay: Cutter) -> None:
    """SQLAlchemy replaces the connection, so that the database can be asked, and the call returns."""
    home = relay.conninfo.split()[0].removeprefix("host=")
    engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={home}")
    with ac.run("r", store=fresh()) as run, engine.connect() as connection:
        relay.cut = "after"
        assert run.sql_step("move", connection, move, 10) == 10
    engine.dispose()
    assert relay.has_cut == 1 and moved(conninfo) == [10]

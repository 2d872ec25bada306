"""Steps that are recorded in the transaction of their work: on SQLite and PostgreSQL, through each library."""

from __future__ import annotations

import datetime
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sql_agents
import sqlalchemy as sa
from memory_runs import fresh, logged
from postgres import postgres
from protocol.servers import embedded_url as embedded_url
from protocol.servers import run_id as run_id
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import agentcheckpoint as ac
from agentcheckpoint import sql
from agentcheckpoint.core.models import Closed, Done

MAKE = "CREATE TABLE account (name VARCHAR(9), balance INT)"
FILL = "INSERT INTO account VALUES ('a', 100), ('b', 0)"


@pytest.fixture(scope="module")
def conninfo() -> Iterator[str]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An account table with 100 in it, in an empty database of each kind."""
    if request.param == "sqlite":
        return empty(str(tmp_path / "bank.db"))
    return empty(str(request.getfixturevalue("conninfo")))


@pytest.fixture
def emptied(conninfo: str) -> str:
    """The same on PostgreSQL, where two transactions are open at once: SQLite lets them in one after the other."""
    return empty(conninfo)


def empty(where: str) -> str:
    connection = sql_agents.connect(where)
    for statement in ("DROP TABLE IF EXISTS account", "DROP TABLE IF EXISTS agentcheckpoint_steps", MAKE, FILL):
        connection.execute(statement)
    connection.commit()
    sql.create_table(connection)
    connection.close()
    return where


def balances(database: str) -> tuple[int, int]:
    connection = sql_agents.connect(database)
    rows = dict(connection.execute("SELECT name, balance FROM account").fetchall())
    connection.close()
    return rows["a"], rows["b"]


def move(connection: Any, amount: int) -> int:
    for sign, name in (("-", "a"), ("+", "b")):
        change = f"UPDATE account SET balance = balance {sign} {amount} WHERE name = '{name}'"
        connection.execute(sa.text(change) if isinstance(connection, sa.Connection | Session) else change)
    return amount


async def move_async(connection: Any, amount: int) -> int:
    for sign, name in (("-", "a"), ("+", "b")):
        change = f"UPDATE account SET balance = balance {sign} {amount} WHERE name = '{name}'"
        await connection.execute(change if isinstance(connection, psycopg.AsyncConnection) else sa.text(change))
    return amount


def engine_url(database: str, driver: str = "") -> str:
    if database.startswith("host="):
        home = database.split()[0].removeprefix("host=")
        return f"postgresql+psycopg://postgres@/postgres?host={home}"
    return f"sqlite{driver}:///{database}"


def wrecked(*_: Any) -> int:
    raise ValueError("the work fails")


BLOCKING: dict[str, Callable[[str], Any]] = {
    "the driver": sql_agents.connect,
    "a connection of SQLAlchemy": lambda database: sa.create_engine(engine_url(database)).connect(),
    "a session of SQLAlchemy": lambda database: Session(sa.create_engine(engine_url(database))),
}


@pytest.mark.parametrize("through", BLOCKING)
def test_a_step_is_done_once_and_a_replay_asks_no_database(database: str, through: str) -> None:
    url, connection = fresh(), BLOCKING[through](database)
    with ac.run("r", store=url) as run:
        assert run.sql_step("move", connection, move, 10) == 10
    connection.close()
    assert balances(database) == (90, 10)
    with ac.run("r", store=url) as run:
        assert run.sql_step("move", sqlite3.connect(":memory:"), move, 10) == 10
    assert balances(database) == (90, 10)


@pytest.mark.parametrize("through", BLOCKING)
def test_a_rollback_takes_back_the_work_and_its_record(database: str, through: str) -> None:
    """P9: nothing says afterwards that the step is done."""

    def half(connection: Any) -> int:
        move(connection, 10)
        raise ValueError("after half of it")

    url, connection = fresh(), BLOCKING[through](database)
    with pytest.raises(ValueError, match="half"), ac.run("r", store=url) as run:
        run.sql_step("move", connection, half)
    assert balances(database) == (100, 0)
    assert logged(url, "r", Done) == []
    with ac.run("r", store=url) as run:
        assert run.sql_step("move", connection, move, 7) == 7
    connection.close()
    assert balances(database) == (93, 7)


@pytest.mark.parametrize("kind", ["session", "connection", "psycopg"])
async def test_an_async_connection_is_the_same(database: str, kind: str) -> None:
    url, engine = fresh(), create_async_engine(engine_url(database, "+aiosqlite"))
    connection: AsyncSession | AsyncConnection | psycopg.AsyncConnection[Any]
    if kind == "psycopg":
        if not database.startswith("host="):
            pytest.skip("psycopg speaks to PostgreSQL")
        connection = await psycopg.AsyncConnection.connect(database)
    else:
        connection = AsyncSession(engine) if kind == "session" else await engine.connect()

    for _ in range(2):
        async with ac.run("r", store=url) as run:
            assert await run.sql_step("move", connection, move_async, 10) == 10
    with pytest.raises(ValueError, match="fails"):
        async with ac.run("r", store=url) as run:

            async def fail(connection: Any) -> int:
                await move_async(connection, 5)
                raise ValueError("it fails")

            await run.sql_step("fail", connection, fail)
    await connection.close()
    await engine.dispose()
    assert balances(database) == (90, 10)


def test_an_error_after_the_step_does_not_take_it_back(database: str) -> None:
    """P10."""
    url, connection = fresh(), sql_agents.connect(database)
    for _ in range(2):
        with pytest.raises(ValueError), ac.run("r", store=url) as run:
            run.sql_step("move", connection, move, 10)
            wrecked()
    connection.close()
    assert balances(database) == (90, 10)


def test_a_step_inside_is_refused_and_all_is_rolled_back(database: str) -> None:
    """A32."""
    url, connection = fresh(), sql_agents.connect(database)
    with ac.run("r", store=url) as run:

        def nested(connection: Any) -> int:
            move(connection, 10)
            return run.step("inner", wrecked)

        with pytest.raises(ac.RunMisuse, match="inside step 'move'"):
            run.sql_step("move", connection, nested)
    connection.close()
    assert balances(database) == (100, 0)


def test_what_ends_the_transaction_itself_is_refused(database: str) -> None:
    connection = sql_agents.connect(database)

    def commit(connection: Any) -> None:
        connection.commit()

    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.RunMisuse, match="ended the transaction itself"):
            run.sql_step("move", connection, commit)
        connection.execute("DELETE FROM account WHERE name = 'nobody'")
        with pytest.raises(ac.RunMisuse, match="open on this connection already"):
            run.sql_step("move", connection, move, 1)
    connection.close()


def test_the_row_answers_where_redis_has_forgotten_the_step(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis goes away between the two commits: the step is done all the same, and its result is the first one."""
    url, connection = fresh(), sql_agents.connect(database)
    with monkeypatch.context() as patch, pytest.raises(ac.StoreUnavailable), ac.run("r", store=url) as run:
        patch.setattr("agentcheckpoint.sql.stepping.store_record", _unavailable)
        run.sql_step("move", connection, move, 10)
    assert balances(database) == (90, 10) and logged(url, "r", Done) == []
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepMismatch, match="10"):
            run.sql_step("move", connection, move, 20)
        assert run.sql_step(ac.Step("move", on_mismatch="reuse"), connection, move, 20) == 10
    assert len(logged(url, "r", Done)) == 1
    connection.close()
    assert balances(database) == (90, 10)


def _unavailable(*_: Any) -> Any:
    raise ac.StoreUnavailable("gone")
    yield


def test_a_run_begun_afresh_does_not_take_the_rows_of_its_earlier_life(database: str) -> None:
    url, connection = fresh(), sql_agents.connect(database)
    for _ in range(2):
        with ac.run("r", store=url, on_existing="fresh") as run:
            run.sql_step("move", connection, move, 10)
    ac.delete("r", store=url)
    with ac.run("r", store=fresh()) as run:
        run.sql_step("move", connection, move, 10)
    connection.close()
    assert balances(database) == (70, 30)


def test_pruning_takes_the_rows_of_old_runs_alone(database: str) -> None:
    connection = sql_agents.connect(database)
    for name in ("old", "new"):
        with ac.run(name, store=fresh()) as run:
            run.sql_step("move", connection, move, 1)
    connection.execute("UPDATE agentcheckpoint_steps SET at = 0 WHERE run = 'old'")
    connection.commit()
    sql.prune(connection, older_than=datetime.timedelta(days=1))
    assert connection.execute("SELECT run FROM agentcheckpoint_steps").fetchall() == [("new",)]
    connection.close()


# -- processes that die ------------------------------------------------------------------------------------------------


def agent(url: str, database: str, point: str, run_id: str) -> subprocess.Popen[str]:
    command = [sys.executable, sql_agents.__file__, url, database, point, run_id]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("point", sql_agents.POINTS)
def test_a_kill_at_any_point_leaves_the_sum_right_and_the_work_done_once(
    embedded_url: str, database: str, point: str, run_id: str
) -> None:
    assert agent(embedded_url, database, point, run_id).wait(60) == -signal.SIGKILL
    done = point in ("between the commits", "after both")
    assert balances(database) == ((90, 10) if done else (100, 0))
    resumed = agent(embedded_url, database, "nowhere", run_id)
    assert resumed.communicate(timeout=60)[0] == "10 2\n"
    assert balances(database) == (90, 10)
    closed = [entry for entry in logged(embedded_url, run_id, Closed) if entry.output is not None]
    assert [entry.state for entry in closed] == ["completed"]


def test_a_paused_worker_past_its_lease_does_not_land_a_second_time(
    embedded_url: str, emptied: str, run_id: str
) -> None:
    assert _outlived(embedded_url, emptied, run_id) == (90, 10)


def test_without_the_primary_key_it_lands_twice(embedded_url: str, emptied: str, run_id: str) -> None:
    """The negative control of the test above."""
    connection = sql_agents.connect(emptied)
    connection.execute("ALTER TABLE agentcheckpoint_steps DROP CONSTRAINT agentcheckpoint_steps_pkey")
    connection.commit()
    connection.close()
    assert _outlived(embedded_url, emptied, run_id) == (80, 20)


def _outlived(url: str, database: str, run_id: str) -> tuple[int, int]:
    """The balances after a worker was stopped in its transaction, outlived by another, and let go on."""
    paused = agent(url, database, "asked stopped", run_id)
    try:
        os.waitpid(paused.pid, os.WUNTRACED)
        heir = agent(url, database, "nowhere", run_id)
        assert heir.communicate(timeout=60)[0] == "10 2\n"
        assert balances(database) == (90, 10)
    finally:
        os.kill(paused.pid, signal.SIGCONT)
    paused.wait(60)
    return balances(database)


@pytest.mark.parametrize("is_in_redis", [True, False], ids=["recorded in both", "recorded in the database alone"])
def test_a_row_of_another_version_or_that_is_too_old_is_done_again_and_replaced(
    tmp_path: Path, is_in_redis: bool
) -> None:
    database, url = empty(str(tmp_path / "bank.db")), fresh()
    connection = sql_agents.connect(database)

    def moved(step: ac.Step) -> tuple[int, int]:
        where = url if is_in_redis else fresh()
        with ac.run("r", store=where) as run:
            if not is_in_redis:  # the same beginning of the run, whose record in Redis was lost with its worker
                run._attempt.birth = "begun"
            run.sql_step(step, connection, move, 10)
        return balances(database)

    assert moved(ac.Step("move", version=1)) == (90, 10)
    assert moved(ac.Step("move", version=1)) == (90, 10)
    assert moved(ac.Step("move", version=2)) == (80, 20)
    assert moved(ac.Step("move", version=2)) == (80, 20)
    assert moved(ac.Step("move", version=2, max_age=0.001)) == (70, 30)
    assert connection.execute("SELECT count(*) FROM agentcheckpoint_steps").fetchone() == (1,)
    connection.close()

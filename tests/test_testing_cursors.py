"""A run that a test seeds at a cursor: its step is under way, and goes on from there."""

from __future__ import annotations

import pytest
from memory_runs import fresh

import agentcheckpoint as ac
from agentcheckpoint.testing import seed_run

worked: list[int] = []


@pytest.fixture(autouse=True)
def nothing_worked() -> None:
    worked.clear()


def process(upto: int) -> int:
    cursor = ac.Cursor(int, start=0)
    while cursor.value < upto:
        worked.append(cursor.value)
        cursor.set(cursor.value + 1)
    return cursor.value


async def process_async(upto: int) -> int:
    cursor = ac.AsyncCursor(int, start=0)
    while cursor.value < upto:
        worked.append(cursor.value)
        await cursor.set(cursor.value + 1)
    return cursor.value


def life(url: str) -> int:
    with ac.run("r", store=url) as run:
        upto = run.step("plan", int, 5)
        return run.step("process", process, upto)


def test_a_run_is_seeded_at_a_cursor() -> None:
    url = fresh()
    with seed_run({"plan": 5}, at=("process", 3)):
        life(url)
    assert worked == [] and [(row.slot, row.value) for row in ac.get("r", store=url).cursors] == [("process", "3")]
    assert life(url) == 5 and worked == [3, 4]


async def test_so_is_an_async_run() -> None:
    url = fresh()

    async def life() -> int:
        async with ac.run("r", store=url) as run:
            return await run.step("process", process_async, 5)

    with seed_run({}, at=("process", 4)):
        await life()
    assert await life() == 5 and worked == [4]


def test_a_cursor_of_a_step_that_is_not_called_is_an_error() -> None:
    with pytest.raises(AssertionError, match="'proces'"), seed_run({"plan": 5, "process": 5}, at=("proces", 3)):
        life(fresh())

"""A value cursor: kept as the loop goes on, typed, fenced, no history, and gone when its step is done."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import pytest
from memory_runs import ask, fresh, packets

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.stopping import interrupt
from agentcheckpoint.store.keys import RunKeys

worked: list[int] = []


@dataclass(frozen=True)
class At:
    id: int = 0
    sub: int = 0


def process(upto: int, die_at: int = -1) -> int:
    cursor = ac.Cursor(int, start=0)
    for number in range(cursor.value + 1, upto + 1):
        if number == die_at:
            raise KeyboardInterrupt
        worked.append(number)
        cursor.set(number)
    return cursor.value


async def process_async(upto: int, die_at: int = -1) -> int:
    cursor = ac.AsyncCursor(int, start=0)
    for number in range(cursor.value + 1, upto + 1):
        if number == die_at:
            raise KeyboardInterrupt
        worked.append(number)
        await cursor.set(number)
    return cursor.value


STEP = ac.Step("process", ignore=("die_at",))


@pytest.fixture(autouse=True)
def nothing_worked() -> None:
    worked.clear()


def fields(url: str) -> dict[str, str]:
    keys = RunKeys(run_tag("default", "r"))
    flat = ask(url, "HGETALL", keys.meta(ask(url, "GET", keys.head).decode()))
    return {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2], strict=True) if k.startswith(b"cursor:")}


def interrupted(url: str, at: int = 3) -> None:
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        run.step(STEP, process, 5, at)


def test_a_loop_goes_on_after_what_it_set_last_even_in_the_very_first_step() -> None:
    url = fresh()
    interrupted(url)
    assert list(fields(url)) == ["cursor:process"]
    with ac.run("r", store=url) as run:
        assert run.step(STEP, process, 5) == 5
    assert worked == [1, 2, 3, 4, 5] and fields(url) == {}
    with ac.run("r", store=url) as run:
        assert run.step(STEP, process, 5) == 5
    assert worked == [1, 2, 3, 4, 5]


def test_the_same_on_a_loop() -> None:
    url = fresh()

    async def once(die_at: int) -> int:
        async with ac.run("r", store=url) as run:
            return await run.step(STEP, process_async, 5, die_at)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(once(3))
    assert asyncio.run(once(-1)) == 5
    assert worked == [1, 2, 3, 4, 5] and fields(url) == {}


def test_a_set_is_one_packet_and_no_entry_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    with ac.run("r", store=url) as run, packets(monkeypatch) as sent:
        run.step(STEP, process, 20)
        assert len(sent) == 21
    assert [entry.k for entry in ac.get("r", store=url).entries] == ["birth", "opened", "done", "closed"]


def nested(ids: list[int], die_at: At | None = None) -> list[At]:
    cursor = ac.Cursor(At, start=At())
    seen: list[At] = []
    for number in ids:
        for sub in (1, 2):
            here = At(number, sub)
            if (here.id, here.sub) <= (cursor.value.id, cursor.value.sub):
                continue
            if here == die_at:
                raise KeyboardInterrupt
            seen.append(here)
            cursor.set(here)
    return seen


def test_a_cursor_of_two_levels_comes_back_as_its_own_type() -> None:
    url = fresh()
    step = ac.Step("nested", ignore=("die_at",))
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        run.step(step, nested, [1, 2], At(2, 1))
    with ac.run("r", store=url) as run:
        assert run.step(step, nested, [1, 2]) == [At(2, 1), At(2, 2)]


def with_text(upto: int) -> None:
    ac.Cursor(At, start=At())
    worked.append(upto)


def test_a_stored_cursor_that_does_not_fit_its_type_names_both_and_stays() -> None:
    url = fresh()
    interrupted(url)
    said = r"'process': its stored cursor 2 does not fit.*At"
    with pytest.raises(ac.CheckpointCorrupt, match=said), ac.run("r", store=url) as run:
        run.step("process", with_text, 5)
    assert worked == [1, 2] and "cursor:process" in fields(url)


def test_a_cursor_of_a_call_with_other_inputs_is_a_mismatch_unless_it_is_asked_for() -> None:
    url = fresh()
    interrupted(url)
    with pytest.raises(ac.StepMismatch, match="other inputs"), ac.run("r", store=url) as run:
        run.step(STEP, process, 6)
    with ac.run("r", store=url, on_mismatch="reuse") as run:
        assert run.step(STEP, process, 6) == 6
    assert worked == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_begun_afresh_begins_its_loops_afresh() -> None:
    url = fresh()
    interrupted(url)
    with ac.run("r", store=url, on_existing="fresh") as run:
        run.step(STEP, process, 2)
        assert fields(url) == {}
    assert worked == [1, 2, 1, 2]


def leak() -> int:
    kept.append(ac.Cursor(int, 0))
    return 0


kept: list[ac.Cursor[int]] = []


def test_a_cursor_outside_of_its_step_is_misuse() -> None:
    with pytest.raises(ac.RunMisuse, match="belongs to a step"):
        ac.Cursor(int, 0)
    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.RunMisuse, match="belongs to a step"):
            ac.Cursor(int, 0)
        run.step("leak", leak)
        with pytest.raises(ac.RunMisuse, match="its own step only"):
            kept[-1].set(1)
        with pytest.raises(ac.RunMisuse, match="its own step only"):
            run.step("other", kept[-1].set, 1)
        with pytest.raises(ac.RunMisuse, match="one cursor"):
            run.step("two", lambda: (ac.Cursor(int, 0), ac.Cursor(int, 0)))


def test_a_worker_that_was_replaced_sets_no_cursor() -> None:
    url = fresh()

    def step() -> int:
        cursor = ac.Cursor(int, 0)
        cursor.set(1)
        ask(url, "DEL", *[k.decode() for k in ask(url, "KEYS", "*:lease")])
        with ac.run("r", store=url):
            pass
        cursor.set(2)
        return 2

    with pytest.raises(ac.LeaseLost), ac.run("r", store=url) as run:
        run.step("s", step)
    assert '"value":"1"' in fields(url)["cursor:s"]


def test_a_cursor_that_is_gone_from_the_store_is_noticed_when_it_is_set_again() -> None:
    url = fresh()

    def step() -> None:
        cursor = ac.Cursor(int, 0)
        cursor.set(1)
        keys = RunKeys(run_tag("default", "r"))
        ask(url, "HDEL", keys.meta(ask(url, "GET", keys.head).decode()), "cursor:s")
        cursor.set(2)

    with pytest.raises(ac.CheckpointsLost, match="cursor before it was gone"), ac.run("r", store=url) as run:
        run.step("s", step)


def test_a_damaged_cursor_is_refused_by_look_and_load() -> None:
    url = fresh()
    interrupted(url)
    keys = RunKeys(run_tag("default", "r"))
    ask(url, "HSET", keys.meta(ask(url, "GET", keys.head).decode()), "cursor:process", '{"begun": 3}')
    with pytest.raises(ac.CheckpointCorrupt, match="'cursor:process'"):
        ac.get("r", store=url)
    with pytest.raises(ac.CheckpointCorrupt, match="'cursor:process'"), ac.run("r", store=url):
        pass


def test_a_cursor_that_were_not_removed_with_its_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the tests above, which look for no field after the step."""
    from agentcheckpoint.core.cursors import Cursors

    monkeypatch.setattr(Cursors, "ended_by", lambda self, entry: ())
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step(STEP, process, 2)
    assert list(fields(url)) == ["cursor:process"]


def test_a_cursor_that_is_set_as_the_attempt_is_to_end_is_stored_first() -> None:
    url = fresh()

    def told(upto: int, at: int) -> int:
        cursor = ac.Cursor(int, start=0)
        for number in range(cursor.value + 1, upto + 1):
            worked.append(number)
            if number == at:
                interrupt("SIGTERM")
            cursor.set(number)
        return cursor.value

    for at in (2, 0):
        with suppress(ac.Interrupted), ac.run("r", store=url) as run:
            assert run.step(ac.Step("process", ignore=("at",)), told, 3, at) == 3
    assert worked == [1, 2, 3]
    assert ac.get("r", store=url).state == "completed"

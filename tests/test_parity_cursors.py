"""Cases of docs/parity.md about cursors that no other test is about."""

from __future__ import annotations

from typing import Any

import pytest
from memory_runs import ask, fresh

import agentcheckpoint as ac

worked: list[object] = []


@pytest.fixture(autouse=True)
def nothing_worked() -> None:
    worked.clear()


def count(die: bool) -> int:
    cursor = ac.Cursor(int, start=0)
    worked.append(cursor.value)
    if die:
        raise ValueError
    cursor.set(cursor.value + 1)
    return cursor.value


def spell(die: bool) -> str:
    cursor = ac.Cursor(str, start="")
    worked.append(cursor.value)
    cursor.set(cursor.value + "x")
    if die:
        raise ValueError
    return cursor.value


COUNT, SPELL = ac.Step("count", ignore=("die",)), ac.Step("spell", ignore=("die",))


def test_each_step_has_a_cursor_of_its_own_with_a_type_of_its_own() -> None:
    url = fresh()
    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        assert run.step(COUNT, count, False) == 1
        run.step(SPELL, spell, True)
    with ac.run("r", store=url) as run:
        assert run.step(COUNT, count, False) == 1
        assert run.step(SPELL, spell, False) == "xx"
    assert worked == [0, "", "x"]


def test_a_failure_before_the_next_set_keeps_the_cursor_that_was_set_last() -> None:
    url = fresh()
    for _ in range(2):
        with pytest.raises(ValueError), ac.run("r", store=url) as run:
            run.step(SPELL, spell, True)
    assert [row.value for row in ac.get("r", store=url).cursors] == ['"xx"']

    def fails(die: bool) -> str:
        worked.append(ac.Cursor(str, start="").value)
        raise ValueError

    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        run.step(SPELL, fails, True)
    assert worked[-1] == "xx" and [row.value for row in ac.get("r", store=url).cursors] == ['"xx"']


def test_a_cursor_may_go_back() -> None:
    url = fresh()

    def back(die: bool) -> int:
        cursor = ac.Cursor(int, start=0)
        worked.append(cursor.value)
        for value in (5, 3):
            cursor.set(value)
        if die:
            raise ValueError
        return cursor.value

    for die in (True, False):
        try:
            with ac.run("r", store=url) as run:
                run.step(ac.Step("back", ignore=("die",)), back, die)
        except ValueError:
            continue
    assert worked == [0, 3]


def test_a_cursor_that_nobody_met_is_shown_with_the_run() -> None:
    url = fresh()
    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        run.step(SPELL, spell, True)
    with ac.run("r", store=url) as run:
        run.step("renamed", spell, False)
    view = ac.get("r", store=url)
    assert view.state == "completed" and [row.slot for row in view.cursors] == ["spell"]
    assert "in progress: spell" in str(view)


def test_the_transaction_of_an_item_is_applied_once_whatever_becomes_of_the_loops_position() -> None:
    url = fresh()

    def withdraw(tx: Any, item: str) -> int:
        worked.append(item)
        tx.queue("INCR", "count")
        return 1

    for die in (True, False):
        try:
            with ac.run("r", store=url) as run:
                for item in run.cursor("items", ["a", "b"], key=str):
                    run.transaction("withdraw", withdraw, item)
                    if die:  # after the item's commit, and before its position is stored
                        raise ValueError
        except ValueError:
            assert ac.get("r", store=url).cursors == ()
    assert worked == ["a", "b"] and ask(url, "GET", "count") == b"2"


def test_a_cursor_inside_a_transaction_is_refused_and_nothing_is_applied() -> None:
    """It would be stored apart from the commands: an item would be done whose commands never were applied."""
    url = fresh()

    def body(tx: Any) -> None:
        tx.queue("SET", "k", "1")
        ac.Cursor(int, start=0).set(1)

    with ac.run("r", store=url) as run, pytest.raises(ac.RunMisuse, match="inside a transaction"):
        run.transaction("t", body)
    assert ask(url, "GET", "k") is None and ac.get("r", store=url).cursors == ()


def test_a_transaction_after_the_with_is_refused_before_it_is_called() -> None:
    with ac.run("r", store=fresh()) as run:
        pass
    with pytest.raises(ac.RunMisuse):
        run.transaction("t", worked.append)
    assert worked == []


def test_a_transaction_of_a_run_that_was_deleted_meanwhile_applies_nothing() -> None:
    url = fresh()

    def body(tx: Any) -> None:
        tx.queue("SET", "k", "1")
        for name in ask(url, "KEYS", "*:lease"):
            ask(url, "DEL", name.decode())
        ac.delete("r", store=url)

    with pytest.raises(ac.RunDeleted), ac.run("r", store=url) as run:
        run.transaction("t", body)
    assert ask(url, "GET", "k") is None


def test_a_step_that_sets_a_cursor_ends_there_when_its_attempt_is_to_end() -> None:
    url = fresh()

    def endless() -> None:
        cursor = ac.Cursor(int, start=0)
        for number in range(1, 100):
            if number == 3:
                ac.cancel("r", store=url)
            cursor.set(number)
            worked.append(number)

    with pytest.raises(ac.Interrupted), ac.run("r", store=url) as run:
        run.step("endless", endless)
    assert len(worked) < 5 and ac.get("r", store=url).state == "cancelled"

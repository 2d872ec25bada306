"""Budgets that several runs share: by name, store, namespace and window; and what dead workers had reserved."""

from __future__ import annotations

from typing import Any

import pytest
from memory_runs import ask, fresh

import agentcheckpoint as ac
from agentcheckpoint.attempt import Attempt, after_commit
from agentcheckpoint.core.budget import window_of
from agentcheckpoint.core.ids import budget_tag
from agentcheckpoint.core.models import Done, Intent
from agentcheckpoint.core.reservations import Book, Reservation, tally
from agentcheckpoint.store import budgets
from agentcheckpoint.store.keys import budget_key
from agentcheckpoint.view import delete

CENT = 10**7
PAID = ac.Step("buy", cost="0.01")
TEAM = ac.Budget("0.03", name="team")
HOUR = 3_600_000


def buy() -> int:
    return 1


def spend(url: str, run_id: str, times: int, budget: ac.Budget = TEAM, **where: Any) -> int:
    """Buys so often, as far as there is room; how often."""
    bought = 0
    try:
        with ac.run(run_id, store=url, budget=budget, **where) as run:
            for _ in range(times):
                run.step(PAID, buy)
                bought += 1
    except ac.BudgetExceeded as error:
        assert error.budget == budget.name
    return bought


def stored(url: str, name: str = "team", window: str = "all", namespace: str = "default") -> dict[str, Reservation]:
    """The reservations of a budget, whose sums are found to be right."""
    flat: list[bytes] = ask(url, "HGETALL", budget_key(budget_tag(namespace, name), window))
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    book = Book.model_validate_json(fields.pop(b"@"))
    found = {attempt.decode(): Reservation.model_validate_json(line) for attempt, line in fields.items()}
    assert book.sums == tally(found.values()).total and book.entries == len(found)
    return found


def states(url: str, **which: str) -> list[str]:
    return sorted(one.state for one in stored(url, **which).values())


# -- who shares -------------------------------------------------------------------------------------------------------


def test_runs_that_name_a_budget_share_it() -> None:
    url = fresh()
    assert [spend(url, "a", 2), spend(url, "b", 2), spend(url, "c", 2)] == [2, 1, 0]
    assert states(url) == ["paid"] * 3
    assert {one.usd for one in stored(url).values()} == {CENT}


def test_names_namespaces_and_stores_keep_budgets_apart() -> None:
    url = fresh()
    assert spend(url, "a", 9) == 3
    assert spend(url, "b", 9, ac.Budget("0.03", name="other")) == 3
    assert spend(url, "a", 9, namespace="elsewhere") == 3
    assert spend(fresh(), "a", 9) == 3


def test_two_spellings_of_a_name_are_one_budget() -> None:
    url = fresh()
    assert spend(url, "a", 9, ac.Budget("0.03", name="caf\u00e9")) == 3
    assert spend(url, "b", 9, ac.Budget("0.03", name="cafe\u0301")) == 0


def test_a_replay_takes_no_room() -> None:
    url = fresh()
    assert spend(url, "a", 3) == spend(url, "a", 3) == 3
    assert len(stored(url)) == 3


def test_each_caller_says_how_high_the_ceiling_is() -> None:
    url = fresh()
    assert spend(url, "a", 9) == 3
    assert spend(url, "b", 9, ac.Budget("0.05", name="team")) == 2
    assert spend(url, "c", 9) == 0


def test_a_budget_of_the_runs_own_that_refuses_takes_no_room_of_a_shared_one() -> None:
    url = fresh()
    with ac.run("a", store=url, budget=[TEAM, ac.Budget(0)]) as run, pytest.raises(ac.BudgetExceeded):
        run.step(PAID, buy)
    assert ask(url, "EXISTS", budget_key(budget_tag("default", "team"), "all")) == 0


def test_what_one_shared_budget_gave_comes_back_when_another_refuses() -> None:
    url = fresh()
    with (
        ac.run("a", store=url, budget=[TEAM, ac.Budget(0, name="empty")]) as run,
        pytest.raises(ac.BudgetExceeded) as caught,
    ):
        run.step(PAID, buy)
    assert caught.value.budget == "empty" and states(url) == ["released"]
    assert spend(url, "b", 9) == 3


async def test_on_a_loop_it_is_the_same_budget() -> None:
    url = fresh()
    async with ac.run("a", store=url, budget=TEAM) as run:
        await run.step(PAID, buy)
    assert spend(url, "b", 9) == 2


# -- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_that_is_over_leaves_the_next_one_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    url, now = fresh(), [1_795_478_400_000]
    monkeypatch.setattr(Attempt, "now_ms", lambda self: now[0])
    daily = ac.Budget("0.03", name="team", window="day")
    assert [spend(url, "a", 2, daily), spend(url, "b", 2, daily)] == [2, 1]
    now[0] += 23 * HOUR
    assert spend(url, "c", 2, daily) == 0
    now[0] += HOUR
    assert spend(url, "d", 2, daily) == 2
    assert len(stored(url, window="2026-11-24")) == 3 and len(stored(url, window="2026-11-25")) == 2


def test_a_call_over_midnight_is_settled_in_the_window_that_it_was_reserved_in(monkeypatch: pytest.MonkeyPatch) -> None:
    url, now = fresh(), [1_795_478_400_000 - 1]
    monkeypatch.setattr(Attempt, "now_ms", lambda self: now[0])

    def over_midnight() -> None:
        now[0] += 2

    with ac.run("a", store=url, budget=ac.Budget("0.03", name="team", window="month")) as run:
        run.step(ac.Step("a", cost="0.01"), over_midnight)
    with ac.run("b", store=url, budget=ac.Budget("0.03", name="team", window="hour")) as run:
        now[0] -= 2
        run.step(ac.Step("a", cost="0.01"), over_midnight)
    assert states(url, window="2026-11") == states(url, window="2026-11-23T23") == ["paid"]


def test_the_window_is_by_the_stores_clock() -> None:
    url = fresh()
    spend(url, "a", 1, ac.Budget(1, name="team", window="hour"))
    seconds, _ = ask(url, "TIME")
    assert states(url, window=window_of("hour", int(seconds) * 1000)) == ["paid"]


# -- workers that die -------------------------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for a kill: nothing is settled."""


def die_at(url: str, run_id: str, kind: type[Any] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies right after its reservation, or after its commit of that kind."""

    def strike(_: Attempt, change: Any) -> None:
        if isinstance(change.entry, kind or Intent):
            raise Died

    with monkeypatch.context() as patch:
        if kind is None:
            patch.setattr("agentcheckpoint.paying.intend", lambda *_: (_ for _ in ()).throw(Died))
        else:
            patch.setattr("agentcheckpoint.attempt.after_commit", [strike])
            patch.setattr("agentcheckpoint.once._withdraw", lambda *_: iter(()))  # who is dead takes nothing back
        with pytest.raises(Died), ac.run(run_id, store=url, budget=TEAM) as run:
            run.step(ac.Step("buy", cost="0.03"), buy)


@pytest.mark.parametrize(
    ("kind", "left", "state"),
    [(None, 3, "released"), (Intent, 0, "unresolved"), (Done, 0, "paid")],
    ids=["before its intent", "after its intent", "after its commit"],
)
def test_what_a_dead_worker_had_reserved_is_what_its_ledger_says(
    kind: type[Any] | None, left: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh()
    die_at(url, "dead", kind, monkeypatch)
    assert spend(url, "early", 9) == 0, "its worker may be alive"
    monkeypatch.setattr(budgets, "HELD_MS", 0)
    monkeypatch.setattr(budgets, "GRACE_MS", -61_000)
    assert spend(url, "late", 9) == left
    dead = [one for one in stored(url).values() if one.run == "dead"]
    assert [one.state for one in dead] == [state]


def test_what_was_unresolved_is_found_to_be_settled_later(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    die_at(url, "dead", Intent, monkeypatch)
    monkeypatch.setattr(budgets, "HELD_MS", 0)
    monkeypatch.setattr(budgets, "GRACE_MS", -61_000)
    assert spend(url, "b", 9) == 0 and states(url) == ["unresolved"]
    delete("dead", store=url)
    assert spend(url, "c", 9) == 0 and states(url) == ["unresolved"], "money of a run that is gone is not given back"


def test_room_that_was_given_away_before_the_intent_was_stored_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that is paused between its reservation and its intent, for longer than the reservation stands."""
    url = fresh()
    late = [0]
    now = Attempt.now_ms

    def others_take_the_room(_: Attempt, change: Any) -> None:
        if isinstance(change.entry, Intent) and _.run_id == "paused" and not late[0]:
            late[0] = 120_000
            monkeypatch.setattr(Attempt, "now_ms", lambda self: now(self) + late[0])
            assert taken

    taken: list[int] = []

    def commit_late(self: Attempt, change: Any, *rest: Any) -> Any:
        if isinstance(change.entry, Intent) and self.run_id == "paused" and not taken:
            with monkeypatch.context() as patch:
                patch.setattr(Attempt, "now_ms", lambda self: now(self) + 120_000)
                taken.append(spend(url, "others", 9))
        return (yield from plain(self, change, *rest))

    plain = Attempt.commit
    monkeypatch.setattr(Attempt, "commit", commit_late)
    after_commit.append(others_take_the_room)
    calls: list[int] = []
    try:
        with pytest.raises(ac.BudgetExceeded), ac.run("paused", store=url, budget=TEAM) as run:
            run.step(ac.Step("buy", cost="0.03"), lambda: calls.append(1))
    finally:
        after_commit.remove(others_take_the_room)
    assert taken == [3] and not calls
    assert [entry.bill for entry in ac.get("paused", store=url).ledger] == ["not_billed"]
    assert states(url) == ["paid"] * 3 + ["released"]


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_a_settlement_that_cannot_be_made_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()

    def fails(*_: object) -> Any:
        raise ac.StoreUnavailable("away")
        yield

    with monkeypatch.context() as patch:
        patch.setattr("agentcheckpoint.reserving.settle", fails)
        assert spend(url, "a", 3) == 3
    assert states(url) == ["reserved"] * 3
    monkeypatch.setattr(budgets, "HELD_MS", 0)
    monkeypatch.setattr(budgets, "GRACE_MS", -61_000)
    assert spend(url, "b", 1) == 0 and states(url) == ["paid"] * 3


def test_a_budget_that_cannot_be_asked_stops_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    url, calls = fresh(), []

    def fails(*_: object) -> Any:
        raise ac.StoreUnavailable("away")
        yield

    monkeypatch.setattr("agentcheckpoint.reserving.reserve", fails)
    with ac.run("a", store=url, budget=TEAM) as run, pytest.raises(ac.StoreUnavailable, match="away"):
        run.step(PAID, lambda: calls.append(1))
    assert not calls
    with ac.run("a", store=url) as run:
        run.step(PAID, buy)


def test_sums_that_somebody_has_changed_are_mended_from_the_reservations() -> None:
    url = fresh()
    spend(url, "a", 2)
    key = budget_key(budget_tag("default", "team"), "all")
    book = Book.model_validate_json(ask(url, "HGET", key, "@"))
    ask(url, "HSET", key, "@", book.model_copy(update={"entries": 0, "usd": 0}).model_dump_json())
    assert spend(url, "b", 9) == 1
    assert states(url) == ["paid"] * 3

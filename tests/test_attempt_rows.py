"""The attempts of a run, one row each: who made it, how it ended, what it gained and what it cost."""

from __future__ import annotations

import pytest
from memory_runs import fresh

import agentcheckpoint as ac
from agentcheckpoint.core.attempt_rows import attempt_rows
from agentcheckpoint.core.models import Birth, Opened


def pay(run: ac.Run, name: str) -> None:
    run.step(ac.Step(name, cost="0.01"), str, name)


def fail() -> None:
    raise ConnectionError("down")


def test_each_attempt_tells_how_it_ended_what_it_gained_and_what_it_cost() -> None:
    url = fresh()
    with pytest.raises(ConnectionError), ac.run("r", store=url, tags=["team"]) as run:
        pay(run, "a")
        pay(run, "b")
        fail()
    with pytest.raises(ac.Suspended), ac.run("r", store=url) as run:
        pay(run, "a")
        raise ac.Suspended(until_ms=7)
    with ac.run("r", store=url) as run:
        for name in "abc":
            pay(run, name)
    first, second, third = ac.get("r", store=url).attempts
    assert (first.number, first.outcome, first.steps, first.cost.spent, first.cost.saved) == (
        1,
        "retryable",
        2,
        20_000_000,
        0,
    )
    assert first.error is not None and (first.error.message, first.tags) == ("down", ("team",))
    assert "in fail" in first.error.trace
    assert first.ended is not None and first.ended >= first.began and "pid " in first.worker
    assert (second.outcome, second.steps, second.cost.spent, second.cost.saved, second.due) == (
        "waiting",
        0,
        0,
        10_000_000,
        7,
    )
    assert (third.outcome, third.steps, third.cost.spent, third.cost.replayed) == ("completed", 1, 10_000_000, 2)
    assert third.error is None


def test_the_rows_add_up_to_the_run() -> None:
    url = fresh()
    for n in range(1, 4):
        with ac.run("r", store=url) as run:
            for name in "abc"[:n]:
                pay(run, name)
    view = ac.get("r", store=url)
    assert sum(row.cost.spent for row in view.attempts) == view.cost.spent == 30_000_000
    assert sum(row.cost.saved for row in view.attempts) == view.cost.saved
    assert sum(row.steps for row in view.attempts) == len(view.steps)


def opened(number: int) -> Opened:
    return Opened(id=f"o{number}", at=number, attempt=number, worker="w")


@pytest.mark.parametrize(("attempts", "outcomes"), [(1, ["running"]), (3, ["died", "died", "running"])])
def test_an_attempt_that_nobody_ended_died_if_another_was_made(attempts: int, outcomes: list[str]) -> None:
    log = [Birth(id="b", at=0, namespace="n", run="r"), *(opened(n + 1) for n in range(attempts))]
    assert [row.outcome for row in attempt_rows(log, {})] == outcomes


def test_a_run_that_was_never_begun_has_none() -> None:
    @ac.agent
    def later() -> None: ...

    url = fresh()
    later.using(store=url).submit("r")
    assert ac.get("r", store=url).attempts == ()

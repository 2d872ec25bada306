"""What a run stores as its output, and what it says at its end: its cost, and the steps that were not met."""

from __future__ import annotations

import datetime
import warnings
from dataclasses import dataclass

import pytest
from counted import Counted
from memory_runs import fresh, leased, logged

import agentcheckpoint as ac
from agentcheckpoint.core.models import Closed


@dataclass
class Report:
    title: str
    at: datetime.date


def test_the_output_is_stored_when_the_run_completes() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        given = Report("t", datetime.date(2026, 1, 2))
        assert run.finish(given) == given
    (closed,) = logged(url, "r", Closed)
    assert closed.output is not None and closed.output.size > 10


def test_no_output_is_stored_when_the_run_fails_after_it_was_set() -> None:
    url = fresh()
    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        run.finish("done")
        raise ValueError
    assert logged(url, "r", Closed)[0].output is None


def test_an_output_that_cannot_be_stored_fails_the_run_at_once_and_is_carried() -> None:
    url, output = fresh(), {"at": [object()]}
    with pytest.raises(ac.ResultNotStorable, match="run 'r', its output") as caught, ac.run("r", store=url) as run:
        run.finish(output)
    assert caught.value.value is output
    assert caught.value.path == "$.at[0]"
    assert ac.get("r", store=url).state == "retryable"
    assert not leased(url, "r")


# -- what it says -----------------------------------------------------------------------------------------------------


def test_recorded_steps_that_were_not_met_are_reported_with_their_price() -> None:
    url = fresh()
    usage = {"model": "m", "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}}
    with ac.run("r", store=url) as run:
        for i in range(7):
            run.llm(ac.Step(f"s{i}", prices={"m": ac.Price(input="1.5", output="0")}), Counted(usage))
    told = r"7 step\(s\).*'s0'.*'s4' and 2 more \(\$10\.50\)"
    with pytest.warns(ac.UnmetStepsWarning, match=told) as caught, ac.run("r", store=url):
        pass
    assert caught[0].filename == __file__
    assert ac.get("r", store=url).state == "completed"


def test_nothing_is_reported_when_the_run_ends_by_an_error_or_met_all() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step("s", Counted())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError), ac.run("r", store=url):
            raise ValueError
        with ac.run("r", store=url) as run:
            run.step("s", Counted())


def test_the_cost_says_what_was_spent_and_what_a_replay_saved() -> None:
    url = fresh()
    answer = {"model": "m", "usage": {"prompt_tokens": 20_000, "completion_tokens": 0, "total_tokens": 20_000}}
    step = ac.Step("s", prices={"m": ac.Price(input="2", output="0")})
    with ac.run("r", store=url) as run:
        run.llm(step, Counted(answer))
        assert str(run.cost) == "spent $0.04"
    with ac.run("r", store=url) as run:
        run.llm(step, Counted(answer))
        assert str(run.cost) == "spent $0.04 · saved $0.04 (1 step replayed)"
    (_, closed) = logged(url, "r", Closed)
    assert (closed.saved, closed.replayed) == (40_000_000, 1)

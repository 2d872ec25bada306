"""An answer that is run again under other inputs counts no more: it is wasted; and what replays of a step spare."""

from __future__ import annotations

from typing import Any

import pytest
from memory_runs import fresh

import agentcheckpoint as ac

PRICES = {"m-1": ac.Price(input="2", output="10")}
PRICE = 1000 * 2_000 + 200 * 10_000
AGAIN = ac.Step("ask", prices=PRICES, on_mismatch="rerun")


def ask(question: str) -> Any:
    usage = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}
    return {"model": "m-1", "usage": usage, "to": question}


def fail(question: str) -> Any:
    raise ValueError(question)


def test_an_answer_that_was_replaced_is_wasted() -> None:
    url = fresh()
    for question in ("a", "b", "b"):
        with ac.run("r", store=url) as run:
            assert run.llm(AGAIN, ask, question)["to"] == question
    assert (run.cost.paid, run.cost.wasted, run.cost.attempts) == (PRICE, PRICE, 2)
    assert run.cost.saved == PRICE  # not what was wasted before
    assert [entry.bill for entry in ac.get("r", store=url).ledger] == ["wasted", "paid"]


def test_an_answer_whose_successor_failed_still_counts() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.llm(AGAIN, ask, "a")
    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        run.llm(AGAIN, fail, "b")
    assert (run.cost.paid, run.cost.wasted) == (PRICE, 0)
    with ac.run("r", store=url) as run:
        assert run.llm(AGAIN, fail, "a")["to"] == "a"


def test_a_mismatch_names_what_its_answer_cost_and_not_what_was_wasted_before() -> None:
    url = fresh()
    for question in ("a", "b"):
        with ac.run("r", store=url) as run:
            run.llm(AGAIN, ask, question)
    with pytest.raises(ac.StepMismatch, match=r"It cost \$0\.004 when"), ac.run("r", store=url) as run:
        run.llm("ask", ask, "c")


@pytest.mark.parametrize("outer", ["step", "llm"])
def test_a_step_that_is_replayed_spares_what_was_paid_inside_it(outer: str) -> None:
    url = fresh()

    def encloses(run: ac.Run) -> Any:
        return run.llm(ac.Step("ask", prices=PRICES), ask, "a")

    for _ in range(2):
        with ac.run("r", store=url) as run:
            getattr(run, outer)("outer", lambda live=run: encloses(live))
    assert (run.cost.saved, run.cost.replayed, run.cost.saved_unpriced) == (PRICE, 1, 0)

"""Callbacks and warnings that raise: what was paid stays recorded or is carried, and the run stays usable."""

from __future__ import annotations

import secrets
import warnings
from typing import Any

import pytest
from counted import Counted
from memory_runs import fresh, leased, logged

import agentcheckpoint as ac
from agentcheckpoint import attempt, opening
from agentcheckpoint.core.models import Done, Failed
from agentcheckpoint.current import withdraw
from agentcheckpoint.taking import end_attempt

pytestmark = pytest.mark.filterwarnings("error::agentcheckpoint.errors.AgentCheckpointWarning")
PRICES = {"m": ac.Price(input="1", output="1")}


class Own(Exception):
    """What a callback raises."""


def paid() -> dict[str, Any]:
    return {"model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}, "id": secrets.token_hex(4)}


def raising(*_: object) -> Any:
    raise Own("mine")


def money(url: str) -> list[tuple[str, int | None]]:
    return [(entry.bill, entry.cost) for entry in ac.get("r", store=url).ledger]


def take_over(run: Any, url: str) -> None:
    """Another worker opens the run, as if this process had died, and ends it."""
    withdraw(run._attempt)
    with ac.run("r", store=url):
        pass


def test_an_accept_that_raises_refuses_the_answer_which_is_wasted_and_carried() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepRejected, match="Own: mine") as caught:
            run.llm(ac.Step("s", prices=PRICES, accept=raising), paid)
        assert caught.value.value["model"] == "m"
        assert run.llm(ac.Step("s", prices=PRICES), paid)
    assert money(url) == [("wasted", 1_000_000), ("paid", 1_000_000)]


def test_a_usage_that_raises_leaves_the_answer_recorded_and_its_price_unknown() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        assert run.llm(ac.Step("s", prices=PRICES, usage=raising), paid)["model"] == "m"
    assert money(url) == [("paid", None)]
    assert logged(url, "r", Failed) == []


def test_a_key_that_raises_is_raised_before_anything_is_called() -> None:
    url, ran = fresh(), Counted()

    @ac.step(name="s", key=raising)
    def keyed(x: int) -> object:
        return ran()

    with ac.run("r", store=url) as run:
        with pytest.raises(Own):
            keyed(1)
        assert run.step("next", int) == 0
    assert ran.calls == 0
    assert [done.slot for done in logged(url, "r", Done)] == ["next"]


def test_a_price_table_that_raises_does_not_lose_the_answer() -> None:
    class Table(dict[str, ac.Price]):
        def get(self, *_: object) -> Any:
            raise Own("mine")

        __getitem__ = __contains__ = __iter__ = get  # type: ignore[assignment]

    url = fresh()
    with ac.run("r", store=url) as run:
        assert run.llm(ac.Step("s", prices=Table(PRICES)), paid)["model"] == "m"
    assert money(url) == [("paid", None)]


def test_an_observer_that_raises_after_a_commit_buys_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    url, tool = fresh(), Counted(paid())
    with ac.run("r", store=url) as run:
        step = ac.Step("s", prices=PRICES)
        with monkeypatch.context() as patched:
            patched.setattr(attempt, "after_commit", [lambda _, change: change.entry.k == "done" and raising()])
            with pytest.raises(Own):
                run.llm(step, tool.__call__)
        assert run.llm(step, tool.__call__) == tool.result
        assert run.cost.paid == 1_000_000
    assert tool.calls == 1
    assert [done.slot for done in logged(url, "r", Done)] == ["s"]
    assert not leased(url, "r")


def test_the_news_of_a_rollback_that_is_an_error_buys_nothing_twice() -> None:
    url, tool = fresh(), Counted()
    with ac.run("r", store=url) as run:
        run._attempt.fence.went_back = True
        with pytest.raises(ac.DurabilityWarning, match="rolled"):
            run.step("s", tool)
        assert run.step("s", tool) == 1
    assert tool.calls == 1
    assert len(logged(url, "r", Done)) == 1


def test_waste_that_cannot_be_booked_does_not_hide_the_lost_lease_and_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> Any:
        raise ac.StoreUnavailable("it is gone")
        yield

    url = fresh()
    monkeypatch.setattr(attempt, "book_waste", refused)
    with pytest.raises(ac.LeaseLost), ac.run("r", store=url) as run:

        def overtaken() -> dict[str, Any]:
            take_over(run, url)
            return paid()

        with pytest.raises(ac.LeaseLost) as caught:
            run.llm(ac.Step("s", prices=PRICES), overtaken)
        assert caught.value.value["model"] == "m"
        assert "could not be booked as wasted: it is gone" in "".join(caught.value.__notes__)
        assert run.cost.wasted == 1_000_000


def test_unmet_steps_that_are_an_error_leave_the_run_completed() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step("old", int)
    with pytest.raises(ac.UnmetStepsWarning), ac.run("r", store=url):
        pass
    assert ac.get("r", store=url).state == "completed"
    assert not leased(url, "r")


def test_a_warning_that_is_an_error_does_not_hide_the_error_that_ended_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def warned(*given: Any) -> Any:
        yield from end_attempt(*given)
        warnings.warn("said while closing", ac.AgentCheckpointWarning, stacklevel=1)

    url = fresh()
    monkeypatch.setattr(opening, "end_attempt", warned)
    with pytest.raises(Own) as caught, ac.run("r", store=url):
        raise Own
    assert "said while closing" in caught.value.__notes__[0]
    assert not leased(url, "r")

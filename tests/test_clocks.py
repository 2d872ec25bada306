"""A wall clock that jumps by a day, between attempts, within one, on the server: nothing but stamps depends on it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from faults.servers import until
from memory_runs import ask, fresh, leased
from servers import embedded_url

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Done, Failed, Intent, LogEntry
from agentcheckpoint.current import withdraw
from agentcheckpoint.store.keys import RunKeys

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")
__all__ = ["embedded_url"]

DAY = 86_400
THINK = ac.Step("think", prices={"m": ac.Price(input="1", output="1")})


class Clock:
    """A wall clock that can be set."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self.offset = 0.0

    def __call__(self) -> float:
        return self._real() + self.offset


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(time.time)
    monkeypatch.setattr(time, "time", clock)
    return clock


def paid(n: int) -> dict[str, Any]:
    return {"n": n, "model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}}


def agent(run: Any, jump: Callable[[], None]) -> list[Any]:
    got: list[Any] = []
    for n in range(4):
        got.append(run.llm(THINK, paid, n)["n"])
        jump()
        got.append(run.step(ac.Step("fetch", key=str(n)), abs, -n))
        jump()
    return got


def shape(entries: tuple[LogEntry, ...]) -> list[tuple[str, str]]:
    return [(entry.k, str(getattr(entry, "slot", ""))) for entry in entries]


@pytest.mark.parametrize("seed", range(5))
def test_a_clock_that_jumps_changes_neither_results_nor_their_order(clock: Clock, seed: int) -> None:
    chance, steady, jumping = random.Random(seed), fresh(), fresh()

    def jump() -> None:
        clock.offset += chance.choice((-DAY, 0, DAY))

    with ac.run("r", store=steady) as run:
        expected = agent(run, lambda: None)
    for _ in range(3):
        jump()
        with ac.run("r", store=jumping) as run:
            assert agent(run, jump) == expected
    view = ac.get("r", store=jumping)
    first = [entry for entry in view.entries if entry.k not in ("opened", "closed")]
    assert shape(tuple(first)) == [
        one for one in shape(ac.get("r", store=steady).entries) if one[0] not in ("opened", "closed")
    ]
    assert view.cost.paid == 4_000_000 and view.state == "completed"
    assert not leased(jumping, "r")


@pytest.mark.parametrize("by", [-DAY, DAY])
def test_within_an_attempt_the_stamps_of_steps_never_go_back_and_no_duration_is_a_day(clock: Clock, by: int) -> None:
    url = fresh()

    def jump() -> None:
        clock.offset += by

    with ac.run("r", store=url) as run:
        agent(run, jump)
    made = [entry for entry in ac.get("r", store=url).entries if isinstance(entry, Done | Failed | Intent)]
    stamps = [entry.at for entry in made]
    assert stamps == sorted(stamps)
    assert stamps[-1] - stamps[0] < 60_000
    assert all(0 <= entry.ms < 60_000 for entry in made if isinstance(entry, Done) and entry.ms is not None)


@pytest.mark.parametrize("by", [-DAY, DAY])
def test_a_lease_is_neither_lost_nor_kept_for_a_clock_that_jumps(clock: Clock, embedded_url: str, by: int) -> None:
    run_id = f"lease{by}"
    with ac.run(run_id, store=embedded_url, lease=0.3) as run:
        clock.offset += by
        time.sleep(0.5)
        until(lambda: leased(embedded_url, run_id), "it is renewed by a clock that does not jump")
        run._attempt.fence.ttl_ms = 900_000  # from here on a slow machine must not lose it
        run.step("one", int)
        with pytest.raises(ac.RunBusy) as caught, ac.run(run_id, store=embedded_url):
            raise AssertionError("it was opened twice")
        assert 0 < caught.value.ttl <= 900
    assert not leased(embedded_url, run_id)


def test_a_server_whose_clock_jumped_ahead_has_expired_the_lease_and_the_heir_is_safe(embedded_url: str) -> None:
    """What a jump of the server's clock does to a lease: it is gone. The fence does not need it."""
    keys = RunKeys(run_tag("default", "ahead"))
    with pytest.raises(ac.LeaseLost), ac.run("ahead", store=embedded_url) as run:
        run.step("one", int)
        ask(embedded_url, "DEL", keys.lease(ask(embedded_url, "GET", keys.head).decode()))
        run.step("two", int)
        assert leased(embedded_url, "ahead"), "its own next commit takes the lease again"
        ask(embedded_url, "DEL", keys.lease(ask(embedded_url, "GET", keys.head).decode()))
        withdraw(run._attempt)
        with ac.run("ahead", store=embedded_url) as heir:
            assert heir.step("one", _never) == heir.step("two", _never) == 0
        run.step("three", int)
    assert [row.slot for row in ac.get("ahead", store=embedded_url).steps] == ["one", "two"]


def _never() -> int:
    raise AssertionError("it is recorded")

"""Resuming: few round trips, few results in memory, and a store that fails on the way never makes anyone pay again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest
from memory_runs import fresh, logged, packets

import agentcheckpoint as ac
from agentcheckpoint import results
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import Done
from agentcheckpoint.results import FRAME, HELD, WINDOW, Results
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.store import Store

STEPS = 10_000


def text(n: int, size: int = 0) -> str:
    return f"{n}".ljust(size, ".")


def never(n: int, size: int = 0) -> str:
    raise AssertionError(f"{n} was to be replayed")


def record(url: str, sizes: list[int]) -> None:
    with ac.run("r", store=url) as run:
        for n, size in enumerate(sizes):
            run.step("s", text, n, size)


def test_a_long_run_is_resumed_in_few_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    record(url, [100] * STEPS)
    payload = sum(done.payload.size for done in logged(url, "r", Done))
    held: list[int] = []
    with packets(monkeypatch) as sent, ac.run("r", store=url) as run:
        for n in range(STEPS):
            assert run.step("s", never, n, 100) == text(n, 100)
            held.append(run._attempt.results._bytes)
        assert run.cost.replayed == STEPS
        assert len(sent) <= 4 + math.ceil((payload + FRAME * STEPS) / WINDOW)
    assert max(held) <= WINDOW < payload


async def test_parallel_replays_share_their_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    url, fetched = fresh(), list[int]()
    sizes = [5_000] * 300
    record(url, sizes)
    read = results.read_results

    def counted(address: Any, token: str, ids: list[str]) -> Protocol[dict[str, bytes]]:
        found = yield from read(address, token, ids)
        fetched.append(sum(len(data) for data in found.values()))
        return found

    monkeypatch.setattr(results, "read_results", counted)
    async with ac.run("r", store=url) as run:
        calls = [run.step("s", never, n, size) for n, size in enumerate(sizes)]
        assert await asyncio.gather(*calls) == [text(n, 5_000) for n in range(300)]
    assert sum(fetched) == sum(done.payload.size for done in logged(url, "r", Done))
    assert len(fetched) <= 3


def test_results_asked_for_in_another_order_are_not_fetched_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    url, fetched = fresh(), list[str]()
    record(url, [10_000] * 200)
    read = results.read_results

    def counted(address: Any, token: str, ids: list[str]) -> Protocol[dict[str, bytes]]:
        fetched.extend(ids)
        return (yield from read(address, token, ids))

    monkeypatch.setattr(results, "read_results", counted)
    with ac.run("r", store=url) as run:
        for n in reversed(range(200)):
            assert run.step("s", never, n, 10_000) == text(n, 10_000)
    assert len(fetched) == len(set(fetched)) == 200


def test_results_that_nobody_asks_for_do_not_pile_up() -> None:
    url = fresh()
    record(url, [WINDOW // 4] * 60)
    with pytest.warns(ac.UnmetStepsWarning), ac.run("r", store=url) as run:
        for n in range(0, 60, 4):
            run.step("s", never, n, WINDOW // 4)
            assert run._attempt.results._bytes <= HELD + WINDOW


def failing(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, times: int, error: Exception) -> list[int]:
    """The method's first calls raise."""
    real, left = getattr(kind, name), [times]

    def method(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if left[0]:
            left[0] -= 1
            raise error
        return (yield from real(self, *args, **kwargs))

    monkeypatch.setattr(kind, name, method)
    return left


def test_a_replay_that_the_store_cannot_serve_is_not_paid_for_by_the_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    record(url, [1, 1])
    with ac.run("r", store=url) as run:
        left = failing(monkeypatch, Results, "fetch", 2, ac.StoreUnavailable("away"))
        for _ in range(2):
            with pytest.raises(ac.StoreUnavailable):
                run.step("s", never, 0, 1)
        assert left == [0]
        assert [run.step("s", never, n, 1) for n in range(2)] == ["0", "1"]


def test_after_a_commit_of_unknown_fate_no_step_runs_until_the_run_is_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, calls = fresh(), []

    def pay() -> str:
        calls.append(1)
        return "paid"

    with pytest.raises(ac.CommitUnknown, match="no more steps") as caught, ac.run("r", store=url) as run:
        run.step("before", text, 0)
        failing(monkeypatch, Attempt, "store_change", 1, ac.CommitUnknown("it went away"))
        with pytest.raises(ac.CommitUnknown, match=r"^it went away$"):
            run.step("pay", pay)
        run.step("pay", pay)
    assert "it went away" in str(caught.value)
    assert calls == [1]
    with ac.run("r", store=url) as run:
        run.step("before", never, 0)
        run.step("pay", pay)
    assert calls == [1, 1]


def test_a_result_whose_commit_the_store_refused_is_not_recorded_and_the_step_runs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        failing(monkeypatch, Attempt, "store_change", 1, ac.StoreRefused("out of memory"))
        with pytest.raises(ac.StoreRefused):
            run.step("s", text, 0)
        assert run.step("s", text, 0) == "0"
    assert [done.slot for done in logged(url, "r", Done)] == ["s"]


def test_whatever_goes_wrong_with_a_commit_the_result_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ac.RunMisuse, match="would wait") as caught, ac.run("r", store=fresh()) as run:
        failing(monkeypatch, Attempt, "store_change", 1, ac.RunMisuse("it would wait for its own loop"))
        run.step("s", text, 7)
    assert caught.value.value == "7"


def test_a_result_that_was_evicted_is_lost_and_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    record(url, [1])

    def nothing(_address: object, _token: str, _ids: object) -> Protocol[dict[str, bytes]]:
        raise ac.CheckpointsLost("evicted")
        yield

    monkeypatch.setattr(results, "read_results", nothing)
    with pytest.raises(ac.CheckpointsLost), ac.run("r", store=url) as run:
        for _ in range(2):
            with pytest.raises(ac.CheckpointsLost):
                run.step("s", never, 0, 1)
        run.step("s", never, 0, 1)


def test_the_interrupt_that_comes_while_a_result_is_stored_buys_it_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    url, calls, run_protocol = fresh(), [], Store.run

    def interrupted(store: Store, protocol: Any) -> Any:
        result = run_protocol(store, protocol)
        if calls == [1]:
            calls.append(2)
            raise KeyboardInterrupt
        return result

    def pay() -> str:
        calls.append(1)
        return "paid"

    with ac.run("r", store=url) as run:
        monkeypatch.setattr(Store, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.step("pay", pay)
        assert run.step("pay", pay) == "paid"
    assert calls == [1, 2]
    assert [done.slot for done in logged(url, "r", Done)] == ["pay"]

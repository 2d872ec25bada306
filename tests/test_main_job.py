"""What each way of leaving a run means, what a step gives back, and who may write: the surface that users stand on."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import os
import secrets
import threading
import uuid
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from memory_runs import packets
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint import current


class Plan(BaseModel):
    title: str
    due: datetime.date


@dataclasses.dataclass
class Point:
    x: int
    tags: tuple[str, ...]


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(8)}"


# -- leaving a run ----------------------------------------------------------------------------------------------------

ENDS: list[tuple[BaseException | None, str]] = [
    (None, "completed"),
    (ValueError("no"), "retryable"),
    (ac.Suspended(), "waiting"),
    (ac.Interrupted(), "interrupted"),
    (KeyboardInterrupt(), "interrupted"),
    (SystemExit(3), "interrupted"),
    (asyncio.CancelledError(), "interrupted"),
]


@pytest.mark.parametrize(("error", "state"), ENDS, ids=[type(e).__name__ for e, _ in ENDS])
def test_each_exit_has_its_state_and_gives_the_lease_back(url: str, error: BaseException | None, state: str) -> None:
    try:
        with ac.run("r", store=url) as run:
            run.step("a", int, 1)
            if error is not None:
                raise error
    except BaseException as caught:
        assert caught is error
    view = ac.get("r", store=url)
    assert view.state == state == run.state
    with ac.run("r", store=url) as again:  # nobody waits for a lease that was given back
        assert again.attempt == 2
        again.step("a", int, 1)


async def test_each_exit_has_its_state_on_a_loop_too(url: str) -> None:
    for number, (error, state) in enumerate(ENDS):
        name = f"r{number}"
        try:
            async with ac.run(name, store=url) as run:
                await run.step("a", int, 1)
                if error is not None:
                    raise error
        except BaseException as caught:
            assert caught is error
        assert run.state == state


def test_a_completed_run_replays_and_an_unknown_step_reopens_it(url: str) -> None:
    with ac.run("r", store=url) as run:
        run.step("a", int, 1)
    with ac.run("r", store=url) as run:
        assert run.state == "completed"
        run.step("a", int, 1)
        assert run.state == "completed"
        run.step("b", int, 2)
        assert run.state == "running"
    assert run.state == "completed"


def test_steps_that_were_not_met_are_named_at_the_end(url: str) -> None:
    with ac.run("r", store=url) as run:
        run.step("gone", int, 1)
    with pytest.warns(ac.UnmetStepsWarning, match="gone"), ac.run("r", store=url):
        pass


# -- what a step gives back -------------------------------------------------------------------------------------------


def _plan() -> Plan:
    return Plan(title="t", due=datetime.date(2026, 11, 23))


def _point() -> Point:
    return Point(1, ("a", "b"))


def _set() -> set[int]:
    return {1, 2}


def _tuple() -> tuple[int, str]:
    return (1, "a")


def _bytes() -> bytes:
    return b"\x00\xff"


def _decimal() -> Decimal:
    return Decimal("1.10")


def _nothing() -> None:
    return None


@pytest.mark.parametrize("make", [_plan, _point, _set, _tuple, _bytes, _decimal, _nothing])
def test_fresh_equals_replayed_in_type_and_value(url: str, make: Any) -> None:
    with ac.run("r", store=url) as run:
        fresh = run.step("s", make)
    with ac.run("r", store=url) as run:
        replayed = run.step("s", make)
    assert fresh == replayed == make()
    assert type(fresh) is type(replayed) is type(make())


def test_a_result_that_cannot_be_stored_is_carried_by_its_error_and_noted_as_a_failed_attempt(url: str) -> None:
    def bad() -> Any:
        return {"a": [1, {1, 2}]}

    with pytest.raises(ac.ResultNotStorable) as caught, ac.run("r", store=url) as run:
        run.step("bad", bad)
    assert caught.value.value == {"a": [1, {1, 2}]}
    assert caught.value.path == "$.a[1]"
    assert "run 'r', step 'bad'" in str(caught.value)
    assert [row.outcome for row in ac.get("r", store=url).steps] == ["failed"]


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(7), KeyError("k")], ids=repr)
def test_what_a_step_raises_comes_out_unchanged_and_is_an_attempt_not_a_result(url: str, error: Exception) -> None:
    def fails() -> int:
        raise error

    with ac.run("r", store=url) as run:
        with pytest.raises(type(error)) as caught:
            run.step("s", fails)
        assert caught.value is error
        assert run.step("s", lambda: 5) == 5


def test_the_same_call_after_a_failure_is_the_next_attempt_of_the_same_step(url: str) -> None:
    tries: list[int] = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise TimeoutError
        return len(tries)

    with ac.run("r", store=url) as run:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                run.step("s", flaky)
        assert run.step("s", flaky) == 3
    (row,) = ac.get("r", store=url).steps
    assert (row.slot, row.attempts) == ("s", 3)


def test_now_uuid_and_random_are_recorded(url: str) -> None:
    seen = []
    for _ in range(2):
        with ac.run("r", store=url) as run:
            seen.append((run.now(), run.uuid(), run.random()))
    assert seen[0] == seen[1]
    assert isinstance(seen[0][1], uuid.UUID)


def test_a_child_of_a_failed_step_is_not_paid_again(url: str) -> None:
    searched: list[int] = []

    def answer(run: ac.Run, fail: bool) -> int:
        found = run.step("search", lambda: searched.append(1) or 7)
        if fail:
            raise OSError
        return found

    step = ac.Step("answer", ignore=("fail",))
    with pytest.raises(OSError), ac.run("r", store=url) as run:
        run.step(step, answer, run, True)
    with ac.run("r", store=url) as run:
        assert run.step(step, answer, run, False) == 7
    assert searched == [1]
    assert {row.slot for row in ac.get("r", store=url).steps} == {"answer", "answer/search"}


# -- inputs that differ -----------------------------------------------------------------------------------------------


def test_other_inputs_are_a_mismatch_that_shows_both(url: str) -> None:
    with ac.run("r", store=url) as run:
        run.step("f", str.upper, "old")
    with pytest.raises(ac.StepMismatch) as caught, ac.run("r", store=url) as run:
        run.step("f", str.upper, "new")
    text = str(caught.value)
    assert "'r'" in text and "'f'" in text and "old" in text and "new" in text


@pytest.mark.parametrize(("policy", "result"), [("reuse", "OLD"), ("rerun", "NEW")])
def test_the_policies_for_other_inputs(url: str, policy: Any, result: str) -> None:
    def shout(text: str) -> str:
        return text.upper()

    with ac.run("r", store=url) as run:
        run.step("f", shout, "old")
    with ac.run("r", store=url, on_mismatch=policy) as run:
        assert run.step("f", shout, "new") == result
    with ac.run("r", store=url) as run:
        assert run.step(ac.Step("f", on_mismatch=policy), shout, "new") == result


def test_a_key_makes_the_same_step_of_the_same_call(url: str) -> None:
    ran: list[str] = []

    def fetch(page: str) -> str:
        ran.append(page)
        return page

    with ac.run("r", store=url) as run:
        for page in ("a", "b", "a"):
            assert run.step(ac.Step("fetch", key=page), fetch, page) == page
    assert ran == ["a", "b"]


def test_a_refused_result_is_carried_by_its_error_and_runs_again(url: str) -> None:
    step = ac.Step("s", accept=lambda value: value > 1)
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepRejected) as caught:
            run.step(step, lambda: 1)
        assert caught.value.value == 1
        assert run.step(step, lambda: 2) == 2


# -- side by side -----------------------------------------------------------------------------------------------------


def test_threads_with_the_run_bound_record_their_steps(url: str) -> None:
    for ran in (8, 0):
        counted: list[int] = []

        def work(number: int, run: ac.Run, counted: list[int] = counted) -> None:
            run.step(ac.Step("w", key=str(number)), lambda: counted.append(number) or number)

        with ac.run("r", store=url) as run:
            threads = [threading.Thread(target=run.bind(work), args=(n, run)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(counted) == ran


async def test_parallel_steps_find_their_own_results_in_whatever_order_they_come(url: str) -> None:
    ran: list[int] = []

    async def work(number: int) -> int:
        await asyncio.sleep(0.001 * (number % 3))
        ran.append(number)
        return number * 10

    async with ac.run("r", store=url) as run:
        assert await asyncio.gather(*(run.step("w", work, n) for n in range(100))) == [n * 10 for n in range(100)]
    async with ac.run("r", store=url) as run:
        order = list(reversed(range(100)))
        assert await asyncio.gather(*(run.step("w", work, n) for n in order)) == [n * 10 for n in order]
    assert len(ran) == 100


async def test_concurrent_calls_of_one_key_run_once(url: str) -> None:
    ran: list[int] = []

    async def slow() -> int:
        await asyncio.sleep(0.02)
        ran.append(1)
        return 7

    async with ac.run("r", store=url) as run:
        step = ac.Step("s", key="k")
        assert await asyncio.gather(*(run.step(step, slow) for _ in range(5))) == [7] * 5
    assert ran == [1]


async def test_a_cancelled_step_is_no_result_and_no_failure(url: str) -> None:
    async with ac.run("r", store=url) as run:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await run.step("s", asyncio.sleep, 5)
        assert await run.step(ac.Step("s", returns=int), lambda: 3) == 3
    assert [row.outcome for row in ac.get("r", store=url).steps] == ["done"]


def test_the_two_phase_form_saves_once_and_must_save(url: str) -> None:
    for done in (False, True):
        with ac.run("r", store=url) as run, run.begin("draft", Plan) as draft:
            assert draft.done is done
            if not draft.done:
                draft.save(_plan())
            assert draft.value == _plan()
    with pytest.raises(ac.RunMisuse, match="without saving"), ac.run("q", store=url) as run, run.begin("draft", int):
        pass


# -- who may write ----------------------------------------------------------------------------------------------------


def test_the_same_run_twice_at_once_is_busy(url: str) -> None:
    with ac.run("r", store=url), pytest.raises(ac.RunBusy) as caught, ac.run("r", store=url):
        pass
    assert f"{os.getpid()}" in caught.value.owner or "this process" in caught.value.owner
    assert caught.value.ttl > 0


def test_a_worker_that_lost_its_run_hears_so_even_if_its_code_swallows_it(url: str) -> None:
    with pytest.raises(ac.LeaseLost), ac.run("r", store=url) as run:
        attempt = run._attempt
        attempt.store.run(  # the lease runs out, and another claims
            iter_delete(attempt.fence.keys.lease(attempt.fence.token))
        )
        with ac.run("r", store=url) as heir:
            heir.step("s", int, 1)
        with suppress(Exception):
            run.step("t", int, 1)
    assert [row.slot for row in ac.get("r", store=url).steps] == ["s"]


def iter_delete(key: str) -> Any:
    from agentcheckpoint.store.effects import Packet

    yield Packet((("DEL", key),))


def test_a_thread_without_the_run_is_warned(url: str) -> None:
    caught: list[Warning] = []

    def work() -> None:
        with pytest.warns(ac.NoActiveRunWarning) as warned:
            current.warn_if_unrecorded("A call")
        caught.extend(w.message for w in warned)  # type: ignore[misc]

    with ac.run("r", store=url):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "'r'" in str(caught[0])


def test_the_off_switch_passes_everything_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    ran: list[int] = []
    for _ in range(2):
        with ac.run("r", store="redis://nowhere.invalid") as run:
            assert run.step("s", lambda: ran.append(1) or object) is object
            with run.begin("b", int) as begun:
                assert not begun.done
                assert begun.save(3) == 3
    assert ran == [1, 1]


@pytest.mark.parametrize("bad", ["", "a\n", "x" * 513, 7, "\ud800"])
def test_a_bad_id_is_refused_before_anything_is_sent(bad: Any) -> None:
    with pytest.raises(ac.InvalidName):
        ac.run(bad, store="memory://never")


# -- what it costs ----------------------------------------------------------------------------------------------------


def test_a_step_takes_one_round_trip_and_a_paid_call_two(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ac.run("r", store=url) as run, packets(monkeypatch) as sent:
        run.step("a", int, 1)
        assert len(sent) == 1
        run.llm("b", lambda: {"usage": {"input_tokens": 1, "output_tokens": 1}})
        assert len(sent) == 3


def test_a_long_run_resumes_in_few_round_trips_and_holds_few_results(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, size = 2_000, 2_000
    with ac.run("r", store=url) as run:
        for number in range(steps):
            run.step("s", _big, number, size)
    with packets(monkeypatch) as sent, ac.run("r", store=url) as run:
        held = 0
        for number in range(steps):
            run.step("s", _big, number, size)
            held = max(held, run._attempt.results._bytes)
        assert len(sent) <= 4 + steps * size / 1_000_000 + 1
        assert held <= 1_000_000


def _big(number: int, size: int) -> str:
    return f"{number:06d}" * (size // 6)

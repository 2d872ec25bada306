"""Sleeps and waits for answers: begun once, ended once, and the same on every replay; in one process."""

from __future__ import annotations

import asyncio
import datetime
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from memory_runs import ask, fresh, leased, logged
from pydantic import AfterValidator, BaseModel, GetPydanticSchema
from pydantic_core import core_schema

import agentcheckpoint as ac
from agentcheckpoint import waits
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Closed, Done, Waiting
from agentcheckpoint.stopping import interrupt
from agentcheckpoint.store.index import list_due
from agentcheckpoint.store.keys import RunKeys, due_key

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.UnmetStepsWarning")


@dataclass(frozen=True)
class Decision:
    ok: bool
    amount: int = 0


SHAPELESS = Annotated[int, GetPydanticSchema(lambda _, __: core_schema.no_info_plain_validator_function(int))]
"""A type that can be stored, and that has no JSON schema."""


class Page(BaseModel):
    title: str
    tags: tuple[str, ...] = ()


def suspends(url: str, body: Any, run_id: str = "r", **options: Any) -> ac.Suspended:
    """Runs it until it is suspended."""
    with pytest.raises(ac.Suspended) as caught, ac.run(run_id, store=url, **options) as run:
        body(run)
    return caught.value


def finishes(url: str, body: Any, run_id: str = "r", **options: Any) -> Any:
    with ac.run(run_id, store=url, **options) as run:
        return body(run)


def due(url: str, run_id: str = "r") -> float | None:
    """When somebody should look at the run, by the list."""
    score = ask(url, "ZSCORE", due_key("default"), run_id)
    return None if score is None else float(score)


def noted_due(url: str, run_id: str = "r") -> str:
    """When the run goes on by itself, by the run."""
    keys = RunKeys(run_tag("default", run_id))
    return str(ask(url, "HGET", keys.meta(ask(url, "GET", keys.head).decode()), "due").decode())


def answered_soon(url: str, name: str, value: Any, seconds: float = 0.3) -> threading.Timer:
    timer = threading.Timer(seconds, ac.answer, ("r", name, value), {"store": url})
    timer.start()
    return timer


# -- sleeping ---------------------------------------------------------------------------------------------------------


def test_a_short_sleep_is_slept_in_place_and_replayed_for_nothing() -> None:
    url = fresh()
    began = time.monotonic()
    finishes(url, lambda run: run.sleep(0.4))
    assert time.monotonic() - began >= 0.4
    began = time.monotonic()
    finishes(url, lambda run: run.sleep(0.4))
    assert time.monotonic() - began < 0.4
    assert [entry.slot for entry in logged(url, "r", Done)] == ["sleep"]
    assert len(logged(url, "r", Waiting)) == 1


def test_a_long_sleep_suspends_the_run_with_the_lease_given_back() -> None:
    url = fresh()
    error = suspends(url, lambda run: run.sleep(datetime.timedelta(hours=2), hold=0))
    (waiting,) = logged(url, "r", Waiting)
    assert error.until_ms == waiting.until == waiting.at + 7_200_000
    assert due(url) == waiting.until and noted_due(url) == str(waiting.until)
    assert ac.get("r", store=url).state == "waiting" and not leased(url, "r")
    assert "UTC" in str(error)


def test_the_time_does_not_begin_again_in_the_next_attempt() -> None:
    url = fresh()
    suspends(url, lambda run: run.sleep(0.6, hold=0))
    time.sleep(0.4)
    began = time.monotonic()
    finishes(url, lambda run: run.sleep(0.6))
    assert time.monotonic() - began < 0.5
    assert len(logged(url, "r", Waiting)) == 1


def test_a_sleep_until_a_moment() -> None:
    url = fresh()
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.3)
    finishes(url, lambda run: run.sleep(until=moment))
    assert datetime.datetime.now(datetime.UTC) >= moment
    finishes(url, lambda run: run.sleep(until=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)), "past")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("say for how long", {}),
        ("say for how long", {"seconds": 1, "until": datetime.datetime.now(datetime.UTC)}),
        ("no time zone", {"until": datetime.datetime(2030, 1, 1)}),
        ("seconds=-1", {"seconds": -1}),
        ("seconds=nan", {"seconds": math.nan}),
        ("seconds=inf", {"seconds": math.inf}),
        ("seconds='1'", {"seconds": "1"}),
        ("hold=-1", {"seconds": 1, "hold": -1}),
        ("key= and on_mismatch= alone", {"seconds": 1, "name": ac.Step("nap", cost="1")}),
    ],
)
def test_a_sleep_that_makes_no_sense_is_refused(words: str, options: dict[str, Any]) -> None:
    url = fresh()
    options = dict(options)
    seconds = options.pop("seconds", None)
    with pytest.raises(ac.RunMisuse, match=words), ac.run("r", store=url) as run:
        run.sleep(seconds, **options)
    assert not logged(url, "r", Waiting)


def test_another_time_in_the_same_slot_is_a_mismatch_before_and_after_it_is_over() -> None:
    url = fresh()
    suspends(url, lambda run: run.sleep(3600, hold=0))
    with pytest.raises(ac.StepMismatch, match="something else"), ac.run("r", store=url) as run:
        run.sleep(3, hold=0)
    assert suspends(url, lambda run: run.sleep(3, hold=0), on_mismatch="reuse").until_ms == (
        logged(url, "r", Waiting)[0].until
    )
    finishes(url, lambda run: run.sleep(0.01), on_mismatch="rerun")
    with pytest.raises(ac.StepMismatch, match=r"seconds: recorded 0\.01, came 5"), ac.run("r", store=url) as run:
        run.sleep(5)


# -- answers ----------------------------------------------------------------------------------------------------------


def test_nothing_that_was_paid_before_is_paid_again_and_the_answer_comes_in_type() -> None:
    url, paid = fresh(), list[int]()

    def body(run: ac.Run) -> Decision:
        run.step("pay", lambda: paid.append(1))
        return run.wait_for("refund", Decision, prompt="Refund 120 €?")

    error = suspends(url, body)
    assert "agentcheckpoint answer r refund VALUE" in str(error) and error.until_ms is None
    assert due(url) is None
    suspends(url, body)
    assert len(logged(url, "r", Waiting)) == 1, "asked once"
    ac.answer("r", "refund", {"ok": True, "amount": 3}, by="ada", store=url)
    assert due(url) is not None, "somebody is to go on with it"
    assert finishes(url, body) == Decision(True, 3)
    assert finishes(url, body) == Decision(True, 3)
    assert paid == [1]


@pytest.mark.parametrize(
    ("returns", "answer", "expected"),
    [
        (bool, True, True),
        (str, "yes", "yes"),
        (Page, Page(title="a", tags=("b",)), Page(title="a", tags=("b",))),
        (Page, {"title": "a"}, Page(title="a")),
        (datetime.date, "2026-11-24", datetime.date(2026, 11, 24)),
        (list[int], [1, 2], [1, 2]),
        (Any, {"free": [None]}, {"free": [None]}),
    ],
)
def test_an_answer_of_any_type_is_the_same_the_first_time_and_on_replay(
    returns: Any, answer: object, expected: object
) -> None:
    url = fresh()
    suspends(url, lambda run: run.wait_for("w", returns))
    ac.answer("r", "w", answer, store=url)
    first, again = (finishes(url, lambda run: run.wait_for("w", returns)) for _ in range(2))
    assert first == again == expected and type(first) is type(again) is type(expected)


def test_a_worker_that_holds_in_place_sees_the_answer_at_once() -> None:
    url = fresh()
    timer = answered_soon(url, "w", True)
    began = time.monotonic()
    assert finishes(url, lambda run: run.wait_for("w", bool, hold=math.inf)) is True
    assert time.monotonic() - began < 5
    timer.join()
    assert len(logged(url, "r", Closed)) == 1, "it was never suspended"


async def test_an_async_run_holds_without_blocking_the_loop() -> None:
    url, ticks = fresh(), 0
    timer = answered_soon(url, "w", 7, 0.5)

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.02)

    ticking = asyncio.create_task(tick())
    async with ac.run("r", store=url) as run:
        assert await run.wait_for("w", int, hold=30) == 7
        await run.sleep(0.01)
    ticking.cancel()
    timer.join()
    assert ticks > 5


def test_no_answer_in_time_is_recorded_and_late_answers_are_refused() -> None:
    url = fresh()

    def body(run: ac.Run) -> bool:
        return run.wait_for("w", bool, timeout=0.2, hold=9)

    for _ in range(2):
        with pytest.raises(ac.WaitTimeout, match="no answer came in time") as caught, ac.run("r", store=url) as run:
            body(run)
        assert isinstance(caught.value, TimeoutError) and caught.value.step == "w"
        with pytest.raises(ac.WaitNotFound, match="its time was up"):
            ac.answer("r", "w", True, store=url)
    assert len(logged(url, "r", Done)) == 1


def test_a_default_is_returned_when_no_answer_comes_in_time() -> None:
    url = fresh()
    body = lambda run: run.wait_for("w", bool, timeout=0.1, hold=9, default=None)  # noqa: E731
    assert finishes(url, body) is None and finishes(url, body) is None


def test_a_timeout_counts_from_the_first_attempt_and_suspends_until_then() -> None:
    url = fresh()
    body = lambda run: run.wait_for("w", bool, timeout=0.5)  # noqa: E731
    error = suspends(url, body)
    assert error.until_ms == logged(url, "r", Waiting)[0].until and due(url) == error.until_ms
    time.sleep(0.6)
    with pytest.raises(ac.WaitNotFound, match="its time was up"):  # nobody has said so yet, and it is so
        ac.answer("r", "w", True, store=url)
    with pytest.raises(ac.WaitTimeout), ac.run("r", store=url) as run:
        body(run)


def test_an_answer_that_came_before_the_time_was_up_counts_however_late_it_is_taken() -> None:
    url = fresh()
    body = lambda run: run.wait_for("w", str, timeout=0.5)  # noqa: E731
    suspends(url, body)
    ac.answer("r", "w", "in time", store=url)
    assert float(noted_due(url)) <= time.time() * 1000, "it need not wait for its deadline"
    time.sleep(0.6)
    assert finishes(url, body) == "in time"


def test_another_prompt_is_another_question() -> None:
    url = fresh()
    suspends(url, lambda run: run.wait_for("w", bool, prompt="Refund 1 €?"))
    ac.answer("r", "w", True, store=url)
    other = lambda run: run.wait_for("w", bool, prompt="Refund 1,000 €?")  # noqa: E731
    with pytest.raises(ac.StepMismatch, match="1,000"), ac.run("r", store=url) as run:
        other(run)
    suspends(url, other, on_mismatch="rerun")
    assert [question.prompt for question in ac.waiting(store=url)] == ["Refund 1,000 €?"]
    ac.answer("r", "w", False, store=url)
    assert finishes(url, other) is False


def test_an_answer_to_a_question_that_has_been_replaced_does_not_count() -> None:
    """The old question is closed by the same field that an answer would be written to."""
    url = fresh()
    suspends(url, lambda run: run.wait_for("w", bool, prompt="old"))
    (old,) = logged(url, "r", Waiting)
    suspends(url, lambda run: run.wait_for("w", bool, prompt="new"), on_mismatch="rerun")
    keys = RunKeys(run_tag("default", "r"))
    assert b"withdrawn" in ask(url, "HGET", keys.answers, old.id)


# -- what only the real type refuses ----------------------------------------------------------------------------------


def _even(n: int) -> int:
    if n % 2:
        raise ValueError("it is odd")
    return n


def test_an_answer_that_only_the_type_can_refuse_is_asked_for_again() -> None:
    url = fresh()
    body = lambda run: run.wait_for("n", Annotated[int, AfterValidator(_even)], timeout=100)  # noqa: E731
    suspends(url, body)
    ac.answer("r", "n", 3, store=url)
    suspends(url, body)
    first, second = logged(url, "r", Waiting)
    assert (first.refused, first.until) == (None, second.until) and "it is odd" in (second.refused or "")
    (question,) = ac.waiting(store=url)
    assert "it is odd" in (question.refused or "")
    ac.answer("r", "n", 4, store=url)
    assert finishes(url, body) == 4


# -- several at once --------------------------------------------------------------------------------------------------


async def test_parallel_waits_suspend_until_the_first_of_them_is_over_whichever_comes_first() -> None:
    url = fresh()

    async def body() -> Any:
        async with ac.run("r", store=url) as run:
            return await asyncio.gather(
                run.sleep(3600, name="long", hold=0), run.wait_for("w", bool), run.sleep(60, name="short", hold=0)
            )

    with pytest.raises(ac.Suspended):
        await body()
    waiting = {entry.slot: entry for entry in logged(url, "r", Waiting)}
    assert set(waiting) == {"long", "w", "short"}
    assert due(url) == waiting["short"].until and logged(url, "r", Closed)[-1].due == waiting["short"].until


async def test_parallel_waits_in_a_task_group_suspend_the_run() -> None:
    url = fresh()

    async def body() -> list[Any]:
        async with ac.run("r", store=url) as run, asyncio.TaskGroup() as group:
            tasks = [group.create_task(run.wait_for(name, int)) for name in ("a", "b")]
        return [task.result() for task in tasks]

    with pytest.raises(BaseExceptionGroup) as caught:
        await body()
    assert all(isinstance(error, ac.Suspended) for error in caught.value.exceptions)
    assert ac.get("r", store=url).state == "waiting"
    for name, n in (("b", 2), ("a", 1)):
        await asyncio.to_thread(ac.answer, "r", name, n, store=url)
    assert await body() == [1, 2]


def test_parallel_waits_in_threads() -> None:
    url = fresh()

    def body(run: ac.Run) -> list[int]:
        with ThreadPoolExecutor(4) as pool:
            ask_for = run.bind(lambda n: run.wait_for(ac.Step("w", key=str(n)), int, hold=0.2))
            return [future.result() for future in [pool.submit(ask_for, n) for n in range(4)]]

    suspends(url, body)
    assert sorted(question.name for question in ac.waiting(store=url)) == [f"w[{n}]" for n in range(4)]
    for n in range(4):
        ac.answer("r", f"w[{n}]", n, store=url)
    assert finishes(url, body) == [0, 1, 2, 3]


async def _pay_beside_a_wait(url: str) -> list[str]:
    done: list[str] = []

    async def pay() -> str:
        await asyncio.sleep(0.5)
        done.append("paid")
        return "paid"

    with pytest.raises((ac.Suspended, BaseExceptionGroup)):
        async with ac.run("r", store=url) as run, asyncio.TaskGroup() as group:
            group.create_task(run.wait_for("w", bool))
            group.create_task(run.step("pay", pay))
    return done


async def test_what_is_under_way_beside_a_wait_is_not_cut_off() -> None:
    url = fresh()
    assert await _pay_beside_a_wait(url) == ["paid"]
    assert [entry.slot for entry in logged(url, "r", Done)] == ["pay"]
    assert ac.get("r", store=url).state == "waiting"


async def test_a_wait_that_does_not_look_beside_it_cuts_off_what_is_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentcheckpoint.core.journal import Journal

    monkeypatch.setattr(Journal, "rest", lambda self, slot: True)
    assert await _pay_beside_a_wait(fresh()) == []


async def test_waits_inside_of_parallel_steps_do_not_wait_for_each_other() -> None:
    url = fresh()

    async def body() -> list[bool]:
        async with ac.run("r", store=url) as run:

            async def careful(n: int) -> bool:
                return await run.wait_for("sure", bool, prompt=str(n))

            return list(await asyncio.gather(*(run.step(ac.Step("do", key=str(n)), careful, n) for n in range(2))))

    with pytest.raises(ac.Suspended):
        await asyncio.wait_for(body(), 20)
    names = sorted(question.name for question in ac.waiting(store=url))
    assert names == ["do[0]/sure", "do[1]/sure"]
    for name in names:
        await asyncio.to_thread(ac.answer, "r", name, True, store=url)
    assert await body() == [True, True]


# -- ends -------------------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_a_wait_in_place_and_its_time_runs_on() -> None:
    url = fresh()
    timer = threading.Timer(0.3, interrupt, ("enough",))
    timer.start()
    with pytest.raises(ac.Interrupted, match="enough"), ac.run("r", store=url) as run:
        run.wait_for("w", bool, hold=math.inf)
    timer.join()
    assert ac.get("r", store=url).state == "interrupted" and not leased(url, "r")
    ac.answer("r", "w", True, store=url)
    assert finishes(url, lambda run: run.wait_for("w", bool)) is True


def test_a_run_that_is_cancelled_while_it_waits_in_place_hears_of_it_at_once() -> None:
    url = fresh()
    cancel = RunKeys(run_tag("default", "r")).cancel
    timer = threading.Timer(0.3, ask, (url, "SET", cancel, "not needed"))
    timer.start()
    began = time.monotonic()
    with pytest.raises(ac.Interrupted, match="not needed"), ac.run("r", store=url, lease=60) as run:
        run.wait_for("w", bool, hold=math.inf)
    timer.join()
    assert time.monotonic() - began < 5 and ac.get("r", store=url).state == "cancelled"


async def test_a_cancelled_task_ends_its_wait() -> None:
    url = fresh()
    with pytest.raises(TimeoutError):
        async with ac.run("r", store=url) as run, asyncio.timeout(0.3):
            await run.wait_for("w", bool, hold=math.inf)
    assert len(logged(url, "r", Waiting)) == 1


def test_an_answer_between_the_last_look_and_the_end_of_the_attempt_is_not_left_lying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The giver sees the run at work; the worker has looked already. Whoever is later wakes the run."""
    url = fresh()

    def answered_in_between(wait: Any, entry: Any) -> ac.Suspended:
        ac.answer("r", "w", True, store=url)
        return suspended(wait, entry)

    suspended = waits.suspended
    monkeypatch.setattr(waits, "suspended", answered_in_between)
    suspends(url, lambda run: run.wait_for("w", bool, timeout=3600))
    late = time.time() * 1000 + 60_000
    assert (due(url) or late) < late and float(noted_due(url)) < late


def test_without_the_second_look_it_would_be_left_lying(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentcheckpoint import opening

    def blind(attempt: Attempt, due_ms: int | None) -> Any:
        yield from list_due(attempt.namespace, attempt.run_id, due_ms)

    monkeypatch.setattr(opening, "list_waiting", blind)
    with pytest.raises(AssertionError):
        test_an_answer_between_the_last_look_and_the_end_of_the_attempt_is_not_left_lying(monkeypatch)


def test_a_run_begun_afresh_asks_anew() -> None:
    url = fresh()
    body = lambda run: run.wait_for("w", bool)  # noqa: E731
    suspends(url, body)
    ac.answer("r", "w", True, store=url)
    suspends(url, body, on_existing="fresh")
    assert len(ac.waiting(store=url)) == 1


# -- where it cannot be ----------------------------------------------------------------------------------------------


def test_where_the_library_is_off_a_sleep_sleeps_and_a_question_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    began = time.monotonic()
    with ac.run("r") as run:
        run.sleep(0.1)
        run.sleep(until=datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.1))
        assert time.monotonic() - began >= 0.2
        with pytest.raises(ac.RunMisuse, match="AGENTCHECKPOINT=off"):
            run.wait_for("w", bool)


async def test_where_the_library_is_off_an_async_sleep_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    async with ac.run("r") as run:
        await run.sleep(0.01)
        with pytest.raises(ac.RunMisuse, match="AGENTCHECKPOINT=off"):
            await run.wait_for("w", bool)


@pytest.mark.parametrize(
    ("words", "returns", "options"),
    [
        ("cannot be stored", range, {}),
        ("JSON schema", SHAPELESS, {}),
        ("seconds=-1", bool, {"timeout": -1}),
        ("characters", bool, {"prompt": "x" * 10_001}),
    ],
)
def test_a_question_that_nobody_could_answer_is_refused(words: str, returns: Any, options: dict[str, Any]) -> None:
    url = fresh()
    with pytest.raises(ac.RunMisuse, match=words), ac.run("r", store=url) as run:
        run.wait_for("w", returns, **options)
    assert not logged(url, "r", Waiting)

"""Cases in which River or Rails lose work, hide an error or pay again: here they do not. See docs/parity.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from memory_runs import fresh, logged

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Failed

LEAVING: list[BaseException] = [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), GeneratorExit()]
BY_NAME = pytest.mark.parametrize("left_by", LEAVING, ids=lambda error: type(error).__name__)


class Calls(list[str]):
    """Says which functions were called, and in what order."""

    def of(self, name: str) -> Callable[[], str]:
        def called() -> str:
            self.append(name)
            return name.upper()

        return called

    def of_async(self, name: str) -> Callable[[], object]:
        async def called() -> str:
            return self.of(name)()

        return called


def fail(error: BaseException) -> str:
    raise error


async def fail_async(error: BaseException) -> str:
    raise error


# -- where a run goes on ----------------------------------------------------------------------------------------------


def test_steps_run_in_the_order_of_their_calls_and_the_next_attempt_runs_only_what_is_missing() -> None:
    url, calls = fresh(), Calls()

    def attempt(*broken: str) -> None:
        with ac.run("r", store=url) as run:
            calls.append("before")
            for name in ("a", "b", "c"):
                run.step(name, fail if name in broken else calls.of(name), *(OSError(name),) * (name in broken))
            calls.append("after")

    with pytest.raises(OSError, match="c"):
        attempt("c")
    assert calls == ["before", "a", "b"]
    calls.clear()
    attempt()
    assert calls == ["before", "c", "after"], "code between steps runs each time"
    calls.clear()
    attempt()
    assert calls == ["before", "after"]


def test_the_last_step_is_recorded_before_the_run_ends_and_the_first_one_too() -> None:
    url, calls = fresh(), Calls()
    with ac.run("r", store=url) as run:
        run.step("only", calls.of("only"))
        assert [done.slot for done in logged(url, "r", Done)] == ["only"]
    for _ in range(2):
        with ac.run("r", store=url) as run:
            assert run.step("only", calls.of("only")) == "ONLY"
    assert calls == ["only"]


def test_a_value_of_a_replayed_step_reaches_the_step_after_it() -> None:
    url = fresh()
    used: list[str] = []

    def attempt(use: Callable[[str], str]) -> None:
        with ac.run("r", store=url) as run:
            answer = run.step("buy", str, "paid answer")
            run.step("use", use, answer)

    def broken(answer: str) -> str:
        raise OSError(answer)

    def use(answer: str) -> str:
        used.append(answer)
        return answer

    with pytest.raises(OSError):
        attempt(broken)
    attempt(use)
    assert used == ["paid answer"]


# -- ends that are no exceptions --------------------------------------------------------------------------------------


@BY_NAME
def test_what_was_done_before_a_step_was_left_by_no_exception_is_kept(left_by: BaseException) -> None:
    url, calls = fresh(), Calls()
    with pytest.raises(type(left_by)), ac.run("r", store=url) as run:
        run.step("one", calls.of("one"))
        run.step("two", fail, left_by)
    assert ac.get("r", store=url).state == "interrupted"
    with ac.run("r", store=url) as run:
        assert (run.step("one", calls.of("one")), run.step("two", calls.of("two"))) == ("ONE", "TWO")
    assert calls == ["one", "two"]


async def test_what_was_done_before_a_task_was_cancelled_is_kept() -> None:
    url, calls = fresh(), Calls()
    reached = asyncio.Event()

    async def hang() -> str:
        reached.set()
        await asyncio.Event().wait()
        return ""

    async def agent() -> None:
        async with ac.run("r", store=url) as run:
            await run.step("one", calls.of_async("one"))
            await run.step("two", hang)

    task = asyncio.create_task(agent())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ac.get("r", store=url).state == "interrupted"
    async with ac.run("r", store=url) as run:
        assert [await run.step(name, calls.of_async(name)) for name in ("one", "two")] == ["ONE", "TWO"]
    assert calls == ["one", "two"]


def test_code_that_makes_an_exception_of_an_end_keeps_what_was_done() -> None:
    url, calls = fresh(), Calls()
    with pytest.raises(RuntimeError, match="recovered"), ac.run("r", store=url) as run:
        try:
            run.step("one", calls.of("one"))
            run.step("two", fail, SystemExit(3))
        except SystemExit as exc:
            raise RuntimeError("recovered") from exc
    assert ac.get("r", store=url).state == "retryable"
    with ac.run("r", store=url) as run:
        run.step("one", calls.of("one"))
        run.step("two", calls.of("two"))
    assert calls == ["one", "two"]


def test_what_ends_an_attempt_is_not_caught_by_except_exception_and_finally_runs() -> None:
    url, calls = fresh(), Calls()

    def stop() -> str:
        raise ac.Interrupted("told to stop")

    with pytest.raises(ac.Interrupted), ac.run("r", store=url) as run:
        try:
            run.step("one", stop)
        except Exception:  # what a user's code does with whatever goes wrong
            calls.append("swallowed")
        finally:
            calls.append("finally")
    assert calls == ["finally"] and ac.get("r", store=url).state == "interrupted"


# -- errors -----------------------------------------------------------------------------------------------------------


def test_the_error_of_a_step_and_that_of_the_code_around_it_are_both_recorded() -> None:
    url = fresh()
    with pytest.raises(ValueError, match="around"), ac.run("r", store=url) as run:
        try:
            run.step("a", fail, OSError("inside"))
        except OSError:
            raise ValueError("around") from None
    (failed,) = logged(url, "r", Failed)
    (attempt,) = ac.get("r", store=url).attempts
    assert (failed.slot, failed.error.type, failed.error.message) == ("a", "OSError", "inside")
    assert attempt.error is not None and (attempt.error.type, attempt.error.message) == ("ValueError", "around")


async def test_both_errors_are_recorded_on_a_loop_too() -> None:
    url = fresh()
    with pytest.raises(ValueError, match="around"):
        async with ac.run("r", store=url) as run:
            try:
                await run.step("a", fail_async, OSError("inside"))
            except OSError:
                raise ValueError("around") from None
    (failed,) = logged(url, "r", Failed)
    (attempt,) = ac.get("r", store=url).attempts
    assert attempt.error is not None
    assert (failed.error.message, attempt.error.message) == ("inside", "around")


def test_a_result_that_cannot_be_stored_and_the_error_around_it_are_both_recorded() -> None:
    url = fresh()
    with pytest.raises(ValueError, match="around"), ac.run("r", store=url) as run:
        try:
            run.step("a", lambda: [object()])
        except ac.ResultNotStorable as exc:
            raise ValueError("around") from exc
    (failed,) = logged(url, "r", Failed)
    (attempt,) = ac.get("r", store=url).attempts
    assert failed.error.type == "ResultNotStorable" and "$[0]" in failed.error.message
    assert attempt.error is not None and attempt.error.message == "around"


def test_a_failed_step_does_not_turn_the_steps_after_it_into_nothing() -> None:
    url, calls = fresh(), Calls()
    with ac.run("r", store=url) as run:
        with pytest.raises(OSError):
            run.step("optional", fail, OSError("down"))
        assert run.step("next", calls.of("next")) == "NEXT"
    assert calls == ["next"] and ac.get("r", store=url).state == "completed"


def test_code_around_an_agent_sees_the_error_of_its_step() -> None:
    url, seen = fresh(), list[BaseException | None]()
    error = OSError("down")

    @ac.step
    def look_up() -> str:
        raise error

    @ac.agent
    def failing() -> str:
        try:
            return look_up()
        except OSError as exc:  # as a user's own wrapper around the body would
            seen.append(exc)
            raise

    failing.using(store=url).submit("r")
    ac.Worker([failing], store=url, until_idle=True, on_attempt=lambda *told: seen.append(told[2].error)).run()
    assert seen == [error, error], "the wrapper's, and the worker's, are the very exception"


# -- life cycle -------------------------------------------------------------------------------------------------------


def test_a_run_that_asks_for_its_own_end_is_cancelled_with_its_reason_and_keeps_what_it_paid() -> None:
    url, calls = fresh(), Calls()

    def give_up() -> str:
        ac.cancel("r", reason="the account is closed", store=url)
        return "asked"

    with pytest.raises(ac.Interrupted, match="the account is closed"), ac.run("r", store=url) as run:
        run.step("one", calls.of("one"))
        run.step("two", give_up)
        run.step("three", calls.of("three"))
    view = ac.get("r", store=url)
    assert (view.state, calls) == ("cancelled", ["one"])
    assert [done.slot for done in logged(url, "r", Done)] == ["one", "two"]
    with pytest.raises(ac.RunCancelled), ac.run("r", store=url):
        pass


def test_arguments_that_the_function_does_not_take_stop_a_step_before_it_begins() -> None:
    url, calls = fresh(), Calls()
    with ac.run("r", store=url) as run:
        with pytest.raises(TypeError):
            run.step("a", calls.of("a"), "too many")  # type: ignore[call-arg]
        assert run.step("a", calls.of("a")) == "A"
    assert calls == ["a"]


def test_a_run_that_was_begun_here_and_told_to_stop_is_finished_by_a_worker() -> None:
    url, calls = fresh(), Calls()

    @ac.step
    def one() -> str:
        return calls.of("one")()

    @ac.agent
    def stopped_once() -> str:
        one()
        if len(calls) == 1:
            calls.append("stopped")
            raise ac.Interrupted("told to stop")
        return "done"

    mine = stopped_once.using(store=url)
    with pytest.raises(ac.Interrupted):
        mine.run("r")
    ac.Worker([stopped_once], store=url, until_idle=True).run()
    assert (ac.get("r", store=url).state, calls) == ("completed", ["one", "stopped"])
    assert mine.run("r") == "done"

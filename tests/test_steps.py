"""Steps that fail, are refused, nest, have two phases, or are called with other inputs than recorded."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from memory_runs import fresh, logged, packets

import agentcheckpoint as ac
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import Done, Failed


def echo(x: object) -> object:
    return x


def refuse(x: object) -> object:
    raise AssertionError(f"{x} was to be replayed")


def record(url: str, name: str, *inputs: object) -> None:
    with ac.run("r", store=url) as run:
        for value in inputs:
            run.step(name, echo, value)


# -- exceptions -------------------------------------------------------------------------------------------------------


class Custom(Exception):
    def __init__(self, code: int, hint: str) -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        StopIteration("end"),
        StopAsyncIteration(),
        Custom(7, "x"),
        Mute(),
        ValueError("\ud800 lone"),
        ExceptionGroup("g", [ValueError()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_comes_through_unchanged_and_is_stored_as_an_attempt(error: Exception) -> None:
    url, calls = fresh(), []

    def fail() -> None:
        calls.append(1)
        raise error

    for attempt in (1, 2):
        with ac.run("r", store=url) as run:
            try:
                run.step("s", fail)
            except Exception as exc:
                assert exc is error
                assert exc.__context__ is None and exc.__cause__ is None
                assert not hasattr(exc, "__notes__")
        assert len(calls) == attempt
    failed = logged(url, "r", Failed)
    assert [(entry.slot, entry.error.type) for entry in failed] == [("s", type(error).__name__)] * 2
    assert "raise error" in failed[0].error.trace
    assert logged(url, "r", Done) == []


def test_the_text_of_a_failure_is_bounded() -> None:
    url = fresh()

    def fail() -> None:
        raise ValueError("x" * 100_000)

    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        run.step("s", fail)
    (failed,) = logged(url, "r", Failed)
    assert len(failed.error.message) == 2000
    assert len(failed.error.trace) == 4000


def test_an_exception_keeps_the_chain_that_its_author_gave_it() -> None:
    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as exc:
            raise ValueError("outer") from exc

    with pytest.raises(ValueError) as caught, ac.run("r", store=fresh()) as run:
        run.step("s", fail)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "StopIteration" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), ac.Suspended(), ac.Interrupted()])
def test_an_interrupt_inside_a_step_is_no_failure_and_the_step_runs_again(error: BaseException) -> None:
    url, calls = fresh(), []

    def stop() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return 5

    with pytest.raises(type(error)) as caught, ac.run("r", store=url) as run:
        run.step("s", stop)
    assert caught.value is error
    assert logged(url, "r", Failed) == []
    with ac.run("r", store=url) as run:
        assert run.step("s", stop) == 5


def test_a_step_retried_in_the_same_attempt_keeps_its_slot() -> None:
    url, calls = fresh(), []

    def flaky(x: int) -> int:
        calls.append(x)
        if len(calls) < 3:
            raise OSError
        return x

    with ac.run("r", store=url) as run:
        for _ in range(3):
            try:
                run.step("s", flaky, 4)
            except OSError:
                continue
    assert [entry.slot for entry in logged(url, "r", Done)] == ["s"]
    assert [entry.slot for entry in logged(url, "r", Failed)] == ["s", "s"]


def test_trouble_with_storing_a_failure_does_not_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_args: object) -> Any:
        raise ac.RunDeleted("it was deleted")
        yield

    error = ValueError("mine")

    def fail() -> None:
        raise error

    with pytest.raises(ValueError) as caught, ac.run("r", store=fresh()) as run:
        monkeypatch.setattr(Attempt, "store_change", gone)
        run.step("s", fail)
    assert caught.value is error
    assert "could not store this failed attempt: it was deleted" in error.__notes__[0]


# -- mismatches -------------------------------------------------------------------------------------------------------


def test_a_mismatch_names_run_step_both_inputs_and_the_choices() -> None:
    url = fresh()
    record(url, "fetch", "https://a")
    with pytest.raises(ac.StepMismatch) as caught, ac.run("r", store=url) as run:
        run.step("fetch", echo, "https://b")
    text = str(caught.value)
    for part in ("'r'", "'fetch'", "x: recorded 'https://a', came 'https://b'", "key=", "rerun", "reuse", "ignore="):
        assert part in text
    assert (caught.value.run_id, caught.value.step) == ("r", "fetch")
    assert ac.get("r", store=url).state == "retryable"


def test_a_mismatch_says_what_is_at_stake() -> None:
    url, answer = fresh(), {"model": "m", "usage": {"prompt_tokens": 1000, "completion_tokens": 0}}
    step = ac.Step("ask", prices={"m": ac.Price(input="30", output="0")})
    with ac.run("r", store=url) as run:
        run.llm(step, lambda question: answer, "a")
    with pytest.raises(ac.StepMismatch, match=r"cost \$0\.03 when"), ac.run("r", store=url) as run:
        run.llm(step, lambda question: answer, "b")


def test_a_mismatch_that_is_swallowed_and_retried_pays_nothing() -> None:
    url = fresh()
    record(url, "fetch", "a")
    with pytest.warns(ac.UnmetStepsWarning, match="'fetch'"), ac.run("r", store=url) as run:
        for _ in range(3):
            with pytest.raises(ac.StepMismatch):
                run.step("fetch", refuse, "b")


@pytest.mark.parametrize("at", ["step", "run"])
@pytest.mark.parametrize(("policy", "result", "then"), [("rerun", "b", "b"), ("reuse", "a", "a")])
def test_the_policies_of_a_step_and_of_a_run(at: str, policy: Any, result: str, then: str) -> None:
    url = fresh()
    record(url, "fetch", "a")
    step = ac.Step("fetch", on_mismatch=policy if at == "step" else None)
    with ac.run("r", store=url, on_mismatch=policy if at == "run" else "error") as run:
        assert run.step(step, echo, "b") == result
    with ac.run("r", store=url) as run:
        assert run.step("fetch", refuse, then) == then


def test_a_steps_policy_comes_before_its_runs() -> None:
    url = fresh()
    record(url, "fetch", "a")
    with pytest.raises(ac.StepMismatch), ac.run("r", store=url, on_mismatch="rerun") as run:
        run.step(ac.Step("fetch", on_mismatch="error"), echo, "b")


def test_arguments_that_are_ignored_do_not_count() -> None:
    url = fresh()
    step = ac.Step("fetch", ignore=("x",))
    with ac.run("r", store=url) as run:
        run.step(step, echo, "a")
    with ac.run("r", store=url) as run:
        assert run.step(step, refuse, x="b") == "a"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ac.Step(""),
        lambda: ac.Step("a/b"),
        lambda: ac.Step("s", key=""),
        lambda: ac.Step("s", key="k" * 513),
        lambda: ac.Step("s", on_mismatch="no"),  # type: ignore[arg-type]
        lambda: ac.Step("s", accept=async_yes),
    ],
)
def test_what_cannot_be_a_step_is_refused_when_it_is_written(make: Any) -> None:
    with pytest.raises((ac.InvalidName, ac.RunMisuse)):
        make()


async def async_yes(_value: object) -> bool:
    return True


def test_a_name_that_cannot_be_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with ac.run("r", store=fresh()) as run, packets(monkeypatch) as sent:
        with pytest.raises(ac.InvalidName):
            run.step("no/slash", refuse, 1)
        assert sent == []


def test_two_spellings_of_a_name_are_one_step() -> None:
    url = fresh()
    record(url, "caf\u00e9", 1)
    with ac.run("r", store=url) as run:
        assert run.step("cafe\u0301", refuse, 1) == 1
        assert run.step("caf\u00e9", echo, 2) == 2
    assert [entry.slot for entry in logged(url, "r", Done)] == ["caf\u00e9", "caf\u00e9#2"]


# -- accept -----------------------------------------------------------------------------------------------------------


def test_a_refused_result_is_carried_and_the_step_stays_open() -> None:
    url = fresh()
    step = ac.Step("s", accept=lambda value: value > 1)
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepRejected, match="accept= said no") as caught:
            run.step(step, echo_int, 1)
        assert caught.value.value == 1
        assert caught.value.step == "s"
    with ac.run("r", store=url) as run:
        assert run.step(step, echo_int, 2) == 2
    assert [entry.error.type for entry in logged(url, "r", Failed)] == ["StepRejected"]


def echo_int(x: int) -> int:
    return x


def test_a_check_that_raises_refuses_and_says_why() -> None:
    with pytest.raises(ac.StepRejected, match="accept= raised TypeError"), ac.run("r", store=fresh()) as run:
        run.step(ac.Step("s", accept=lambda value: value > 1), echo, "text")

"""Crash points and interrupts: an attempt ends where a test says, and leaves behind what a real end would."""

from __future__ import annotations

import pytest
from memory_runs import fresh

import agentcheckpoint as ac
from agentcheckpoint.testing.crashing import Crashed, crash
from agentcheckpoint.testing.interrupting import interrupt_after, interrupt_during

calls: list[str] = []


def work(name: str) -> str:
    calls.append(name)
    return name.upper()


def life(url: str) -> str:
    with ac.run("r", store=url) as run:
        first = run.step("plan", work, "plan")
        second = run.llm(ac.Step("fetch", key="u1"), work, "fetch")
        return first + second


async def async_life(url: str) -> str:
    async with ac.run("r", store=url) as run:
        return await run.step("plan", work, "plan") + await run.llm(ac.Step("fetch", key="u1"), work, "fetch")


@pytest.fixture
def url() -> str:
    calls.clear()
    return fresh()


@pytest.mark.parametrize(
    ("step", "at", "called"),
    [
        ("plan", "before call", ["plan", "fetch"]),
        ("plan", "before commit", ["plan", "plan", "fetch"]),
        ("plan", "after commit", ["plan", "fetch"]),
        ("fetch[u1]", "after intent", ["plan", "fetch"]),
        ("fetch", "before commit", ["plan", "fetch", "fetch"]),
        ("fetch", "after commit", ["plan", "fetch"]),
    ],
)
def test_a_crash_leaves_what_was_committed_and_nothing_else(url: str, step: str, at: str, called: list[str]) -> None:
    with crash(step, at=at):  # type: ignore[arg-type]
        life(url)
    view = ac.get("r", store=url)
    assert view.state == "running", "the dead write no end"
    assert [entry.k for entry in view.entries][-1] != "closed"
    assert life(url) == "PLANFETCH" and calls == called


async def test_the_same_in_an_async_run(url: str) -> None:
    with crash("fetch", at="before commit"):
        await async_life(url)
    assert ac.get("r", store=url).state == "running"
    assert await async_life(url) == "PLANFETCH" and calls == ["plan", "fetch", "fetch"]


def test_code_that_catches_everything_stores_nothing_after_its_crash(url: str) -> None:
    with crash("plan"), ac.run("r", store=url) as run:
        try:
            run.step("plan", work, "plan")
        except BaseException:
            with pytest.raises(ac.AgentCheckpointError):
                run.step("more", work, "more")
            raise
    assert [step.slot for step in ac.get("r", store=url).steps] == ["plan"]


def test_a_crash_at_a_step_that_is_not_met_is_an_error(url: str) -> None:
    with pytest.raises(AssertionError, match="step 'plann' was not met after commit"), crash("plann"):
        life(url)


def test_a_replayed_step_has_no_crash_point(url: str) -> None:
    life(url)
    with pytest.raises(AssertionError, match="'plan' was not met"), crash("plan"):
        life(url)


def test_crashed_is_not_caught_by_except_exception() -> None:
    assert not issubclass(Crashed, Exception)


@pytest.mark.parametrize("interrupt", [interrupt_after, interrupt_during])
def test_an_interrupt_lets_the_step_be_recorded_and_ends_the_attempt(interrupt: object, url: str) -> None:
    with interrupt("plan"):  # type: ignore[operator]
        life(url)
    assert calls == ["plan"] and ac.get("r", store=url).state == "interrupted"
    assert life(url) == "PLANFETCH" and calls == ["plan", "fetch"]


def test_what_a_step_calls_inside_is_not_begun_once_it_is_interrupted(url: str) -> None:
    def outer() -> str:
        return inside()

    @ac.step
    def inside() -> str:
        calls.append("inside")
        return "in"

    def nested() -> str:
        with ac.run("r", store=url) as run:
            return run.step("outer", outer)

    with interrupt_during("outer"):
        nested()
    assert calls == [] and ac.get("r", store=url).state == "interrupted"
    with interrupt_after("outer/inside"):
        nested()
    assert nested() == "in" and calls == ["inside"]


def test_an_interrupt_at_a_step_that_is_not_met_is_an_error(url: str) -> None:
    with pytest.raises(AssertionError, match="step 'nothing' was not recorded"), interrupt_after("nothing"):
        life(url)

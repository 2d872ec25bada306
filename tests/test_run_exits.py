"""What each way of leaving a run's ``with`` means, in both colours, and that each gives the lease back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from memory_runs import ask, fresh, leased, logged

import agentcheckpoint as ac
from agentcheckpoint import opening
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Closed, Done
from agentcheckpoint.current import position, withdraw
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.upkeep import renew
from agentcheckpoint.taking import take_run


class Odd(Exception):
    """An exception that is false, and whose text cannot be had."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        raise RuntimeError("no text")


EXITS: list[tuple[BaseException | None, str]] = [
    (None, "completed"),
    (ValueError("bad"), "retryable"),
    (StopIteration("odd"), "retryable"),
    (Odd(), "retryable"),
    (ExceptionGroup("some", [ValueError("a"), OSError("b")]), "retryable"),
    (ac.Suspended("later"), "waiting"),
    (BaseExceptionGroup("tasks", [ac.Suspended("later")]), "waiting"),
    (BaseExceptionGroup("tasks", [ac.Suspended("later"), ValueError("a")]), "retryable"),
    (ac.Interrupted("stop"), "interrupted"),
    (KeyboardInterrupt(), "interrupted"),
    (asyncio.CancelledError(), "interrupted"),
    (SystemExit(3), "interrupted"),
    (GeneratorExit(), "interrupted"),
    (BaseExceptionGroup("both", [ac.Interrupted("stop"), ValueError("a")]), "interrupted"),
]
EACH = pytest.mark.parametrize(("error", "state"), EXITS, ids=[type(e).__name__ + s for e, s in EXITS])


def one() -> int:
    return 1


def check(url: str, error: BaseException | None, state: str, run: Any) -> None:
    assert run.state == state
    assert ac.get("r", store=url).state == state
    (closed,) = logged(url, "r", Closed)
    assert closed.state == state
    assert (closed.error is not None) == (state == "retryable")
    if closed.error is not None:
        assert closed.error.type == type(error).__qualname__
    assert [done.slot for done in logged(url, "r", Done)] == ["one"]
    assert not leased(url, "r")


@EACH
def test_leaving_a_blocking_run(error: BaseException | None, state: str) -> None:
    url, caught, run = fresh(), None, None
    try:
        with ac.run("r", store=url) as run:
            run.step("one", one)
            assert leased(url, "r")
            if error is not None:
                raise error
    except BaseException as exc:
        caught = exc
    assert caught is error
    assert getattr(error, "__notes__", []) == []
    check(url, error, state, run)
    with ac.run("r", store=url) as run:
        run.step("one", one)
    assert (run.attempt, run.state, run.cost.replayed) == (2, "completed", 1)


@EACH
def test_leaving_an_async_run(error: BaseException | None, state: str) -> None:
    url, seen = fresh(), []

    async def main() -> None:
        try:
            async with ac.run("r", store=url) as run:
                seen.append(run)
                await run.step("one", one)
                if error is not None:
                    raise error
        except BaseException as exc:
            assert exc is error
        else:
            assert error is None

    asyncio.run(main())
    check(url, error, state, seen[0])


def test_an_interrupt_while_the_run_is_opened_gives_the_lease_back(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()

    def interrupted(attempt: Attempt, wait: float) -> Any:
        yield from take_run(attempt, wait)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(opening, "take_run", interrupted)
        ac.run("r", store=url).__enter__()
    assert ac.get("r", store=url).state == "interrupted"
    assert not leased(url, "r")


async def test_a_cancellation_while_the_run_is_opened_gives_the_lease_back() -> None:
    url = fresh()
    opened = asyncio.Event()

    async def work() -> None:
        opened.set()
        async with ac.run("r", store=url):
            raise AssertionError("the task was cancelled before it came here")

    task = asyncio.create_task(work())
    await opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ac.get("r", store=url).state == "interrupted"
    assert not leased(url, "r")


def test_a_warning_that_is_an_error_while_the_run_is_opened_gives_the_lease_back() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step("one", one)
    keys = RunKeys(run_tag("default", "r"))
    ask(url, "HSET", keys.meta(ask(url, "GET", keys.head).decode()), "paid", "77")
    with pytest.raises(ac.AgentCheckpointWarning, match="totals"), ac.run("r", store=url):
        raise AssertionError("it was not opened")
    assert not leased(url, "r")


def test_trouble_while_closing_does_not_hide_the_error_that_ended_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(attempt: Attempt, *_args: object) -> Any:
        raise ac.StoreUnavailable("gone")
        yield

    error = ValueError("mine")
    monkeypatch.setattr(opening, "end_attempt", broken)
    with pytest.raises(ValueError) as caught, ac.run("r", store=fresh()):
        raise error
    assert caught.value is error
    assert "could not store that run 'r' ended so: gone" in error.__notes__[0]


def test_a_lost_lease_of_another_run_ends_this_one_as_any_error_does() -> None:
    url = fresh()
    with pytest.raises(ac.LeaseLost), ac.run("r", store=url):
        raise ac.LeaseLost("of another run", run_id="other")
    assert ac.get("r", store=url).state == "retryable"
    assert not leased(url, "r")


@pytest.mark.parametrize("noticed", [False, True])
def test_leaving_normally_after_the_run_was_taken_over_raises_and_writes_nothing(noticed: bool) -> None:
    url = fresh()
    with pytest.raises(ac.LeaseLost), ac.run("r", store=url) as run:
        withdraw(run._attempt)  # as if this process had died and another gone on
        with ac.run("r", store=url) as heir:
            heir.step("one", one)
        if noticed:  # by the thread that renews the lease
            ac.connect(url).run(renew(run._attempt.fence))
    assert [closed.state for closed in logged(url, "r", Closed)] == ["completed"]


def test_the_run_is_the_current_one_inside_and_the_outer_one_again_outside() -> None:
    url = fresh()
    assert position() is None
    with ac.run("outer", store=url) as outer:
        with pytest.raises(ValueError), ac.run("inner", store=url) as inner:
            here = position()
            assert here is not None and here.attempt is inner._attempt
            raise ValueError
        here = position()
        assert here is not None and here.attempt is outer._attempt
    assert position() is None

"""Opening runs: ids, resuming, somebody else at work, and the off switch."""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from counted import Counted
from memory_runs import fresh, logged

import agentcheckpoint as ac
from agentcheckpoint import opening, taking
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import Closed, Done
from agentcheckpoint.store.loading import Loaded

# -- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "open_it"),
    [
        (ac.InvalidName, lambda url: ac.run("", store=url)),
        (ac.InvalidName, lambda url: ac.run("a\nb", store=url)),
        (ac.InvalidName, lambda url: ac.run("x" * 513, store=url)),
        (ac.InvalidName, lambda url: ac.run("r", store=url, namespace="No Spaces")),
        (ac.RunMisuse, lambda url: ac.run("r", store=url, lease=0)),
        (ac.RunMisuse, lambda url: ac.run("r", store=url, lease=None)),  # type: ignore[arg-type]
        (ac.RunMisuse, lambda url: ac.run("r", store=url, wait="1")),  # type: ignore[arg-type]
        (ac.RunMisuse, lambda url: ac.run("r", store=url, wait=True)),
        (ac.RunMisuse, lambda url: ac.agent(str).using(wait="1")),  # type: ignore[arg-type]
        (ac.RunMisuse, lambda url: ac.run("r", store=url, lease=float("nan"))),
        (ac.RunMisuse, lambda url: ac.run("r", store=url, wait=float("nan"))),
        (ac.RunMisuse, lambda url: ac.run("r", store=url, wait=-1)),
        (ac.RunMisuse, lambda url: ac.run("r", store=url, on_mismatch="ignore")),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused_before_a_server_is_looked_for(
    problem: type[Exception], open_it: Callable[[str], object]
) -> None:
    with pytest.raises(problem):
        open_it("redis://nowhere.invalid:1")


def test_a_run_without_an_id_is_new_each_time() -> None:
    url, step = fresh(), Counted()
    ids = set()
    for _ in range(2):
        with ac.run(store=url) as run:
            run.step("s", step)
            ids.add(run.id)
    assert step.calls == len(ids) == 2


def test_the_same_id_goes_on_and_counts_its_attempts() -> None:
    url, step = fresh(), Counted()
    for attempt in (1, 2, 3):
        with ac.run("r", store=url) as run:
            assert (run.id, run.attempt) == ("r", attempt)
            assert run.step("s", step) == 1
    assert step.calls == 1


def test_runs_of_two_namespaces_are_two() -> None:
    url, step = fresh(), Counted()
    for namespace in ("a", "b"):
        with ac.run("r", store=url, namespace=namespace) as run:
            run.step("s", step)
    assert step.calls == 2


def test_a_completed_run_replays_and_an_unknown_step_reopens_it() -> None:
    url, known, unknown = fresh(), Counted(), Counted(2)
    with ac.run("r", store=url) as run:
        run.step("known", known)
    with ac.run("r", store=url) as run:
        run.step("known", known)
        assert run.state == "completed"
        assert run.step("unknown", unknown) == 2
        assert run.state == "running"
        assert ac.get("r", store=url).state == "running"
    assert (known.calls, unknown.calls) == (1, 1)
    assert ac.get("r", store=url).state == "completed"


def test_an_opener_is_entered_once() -> None:
    opener = ac.run("r", store=fresh())
    with opener as run:
        run.step("s", Counted())
    with pytest.raises(ac.RunMisuse, match="entered before"), opener:
        raise AssertionError("it was entered again")


def test_a_step_after_the_with_is_refused_before_it_runs() -> None:
    step = Counted()
    with ac.run("r", store=fresh()) as run:
        pass
    for call in (lambda: run.step("s", step), lambda: run.llm("s", step), lambda: run.begin("s").__enter__()):
        with pytest.raises(ac.RunMisuse, match="not open"):
            call()
    assert step.calls == 0


# -- somebody else ----------------------------------------------------------------------------------------------------


def test_a_run_that_is_open_in_this_process_is_busy() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.RunBusy, match="this process") as caught, ac.run("r", store=url):
            raise AssertionError("it was opened twice")
        assert run.step("s", Counted()) == 1
    assert caught.value.run_id == "r"
    assert 0 < caught.value.ttl <= 30
    assert caught.value.owner.startswith("pid ")


def test_of_two_threads_that_open_it_at_once_one_gets_it_and_keeps_it() -> None:
    outcomes: list[str] = []

    def work(url: str, ready: threading.Barrier) -> None:
        ready.wait()
        try:
            with ac.run("r", store=url) as run:
                run.step("s", Counted())
                ready.wait()
                outcomes.append("worked")
        except ac.RunBusy:
            outcomes.append("busy")
            ready.wait()

    for _ in range(20):
        url, ready = fresh(), threading.Barrier(2)
        threads = [threading.Thread(target=work, args=(url, ready)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == ["busy"] * 20 + ["worked"] * 20


def test_while_a_run_is_opening_it_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    url, seen, take_over = fresh(), [], taking._take_over

    def open_again(attempt: Attempt, loaded: Loaded) -> None:
        try:
            ac.run("r", store=url).__enter__()
        except ac.RunBusy:
            seen.append("busy")
        take_over(attempt, loaded)

    monkeypatch.setattr(taking, "_take_over", open_again)
    with ac.run("r", store=url):
        pass
    assert seen == ["busy"]
    assert ac.get("r", store=url).state == "completed"


def test_one_that_waits_gets_the_run_when_it_is_free_and_never_before() -> None:
    url, order = fresh(), []

    def second() -> None:
        with ac.run("r", store=url, wait=30):
            order.append("second")

    with ac.run("r", store=url):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert [closed.state for closed in logged(url, "r", Closed)] == ["completed"] * 2


def test_while_a_run_is_closing_it_is_still_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    url, seen = fresh(), []

    def open_again(error: BaseException | None, *, cancelled: bool) -> str:
        try:
            ac.run("r", store=url).__enter__()
        except ac.RunBusy:
            seen.append("busy")
        return "completed"

    monkeypatch.setattr(opening, "state_after", open_again)
    with ac.run("r", store=url):
        pass
    assert seen == ["busy"]
    assert ac.get("r", store=url).state == "completed"


# -- off --------------------------------------------------------------------------------------------------------------


def test_switched_off_everything_passes_through_without_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    step, odd = Counted(), object()
    with ac.run("r", store="redis://nowhere.invalid:1") as run:
        assert [run.step("s", step) for _ in range(2)] == [1, 1]
        assert run.step("odd", lambda: odd) is odd
        assert run.llm("s", step) == 1
        assert isinstance(run.now(), datetime.datetime)
        assert isinstance(run.uuid(), uuid.UUID)
        with run.begin("b") as begun:
            assert not begun.done
            assert begun.save(odd) is odd
        assert begun.value is odd
        with run.begin("left without saving"):
            pass
        assert run.finish(odd) is odd
    assert step.calls == 3
    assert str(run.cost) == "spent $0.00"


def test_switched_off_a_store_connects_to_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    monkeypatch.setenv("AGENTCHECKPOINT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AGENTCHECKPOINT_URL", raising=False)
    for store in (ac.connect("redis://nowhere.invalid:1"), ac.connect()):
        with ac.run("r", store=store) as run:
            assert run.step("s", lambda: 1) == 1
    assert not (tmp_path / "home").exists()
    with pytest.raises(ac.InvalidStore):
        ac.connect("nonsense://")


async def test_switched_off_async_runs_pass_through_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")

    async def double(n: int) -> int:
        return 2 * n

    async with ac.run("r", store="redis://nowhere.invalid:1") as run:
        assert await run.step("s", double, 2) == 4
        assert await run.step("s", lambda: 5) == 5
        assert 0 <= await run.random() < 1
        async with run.begin("b", int) as begun:
            assert await begun.save(3) == 3


def test_steps_are_listed_once_each() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        for _ in range(3):
            run.step("s", Counted())
    assert [entry.slot for entry in logged(url, "r", Done)] == ["s", "s#2", "s#3"]

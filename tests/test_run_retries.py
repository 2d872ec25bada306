"""A run under a policy of tenacity's: its attempts, their count and waits in the log, and what is never tried again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from memory_runs import fresh, leased, logged
from servers import embedded_url
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
    wait_none,
)

import agentcheckpoint as ac
from agentcheckpoint.core.models import Closed, Opened, Revived

__all__ = ["embedded_url"]
THRICE = Retrying(stop=stop_after_attempt(3))


class Down(ConnectionError):
    """Fails as a network does."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__("down")
        self.retry_after = retry_after


def ends(url: str, run_id: str) -> list[str]:
    return [entry.state for entry in logged(url, run_id, Closed)]


# -- ac.attempts ------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_followed_by_another_which_replays_what_is_paid() -> None:
    url, paid = fresh(), list[str]()
    seen: list[int] = []
    for attempt in ac.attempts("r", retry=THRICE, store=url):
        with attempt as run:
            seen.append(run.attempt)
            run.step("paid", lambda: paid.append("once"))
            if run.attempt < 3:
                raise Down
    assert (seen, paid) == ([1, 2, 3], ["once"])
    assert ends(url, "r") == ["retryable", "retryable", "completed"]


def test_the_same_on_an_event_loop() -> None:
    url = fresh()

    async def main() -> list[int]:
        seen: list[int] = []
        async for attempt in ac.attempts("r", retry=AsyncRetrying(stop=stop_after_attempt(2)), store=url):
            async with attempt as run:
                seen.append(run.attempt)
                if run.attempt < 2:
                    raise Down
        return seen

    assert asyncio.run(main()) == [1, 2]
    assert ends(url, "r") == ["retryable", "completed"]


def test_the_last_error_is_raised_unchanged_and_the_run_has_failed() -> None:
    url, errors = fresh(), [Down() for _ in range(3)]
    with pytest.raises(Down) as caught:
        for attempt in ac.attempts("r", retry=THRICE, store=url):
            with attempt as run:
                raise errors[run.attempt - 1]
    assert caught.value is errors[2]
    assert ends(url, "r") == ["retryable", "retryable", "failed"]
    assert not leased(url, "r")
    [*_, last] = logged(url, "r", Closed)
    assert last.error is not None and last.error.type.endswith("Down") and "Traceback" in last.error.trace


def test_an_attempt_that_is_not_entered_is_no_endless_loop() -> None:
    with pytest.raises(ac.RunMisuse, match="was not entered"):
        for _ in ac.attempts("r", retry=THRICE, store=fresh()):
            pass


def test_a_loop_that_is_left_early_leaves_the_run_to_the_next() -> None:
    url = fresh()
    for attempt in ac.attempts("r", retry=THRICE, store=url):
        with attempt as run:
            run.step("a", int, "1")
            break
    assert ends(url, "r") == ["completed"]


def test_what_is_no_policy_is_refused_before_anything_is_sent() -> None:
    for wrong in (3, "thrice", stop_after_attempt(3)):
        with pytest.raises(ac.RunMisuse, match="no policy"):
            ac.attempts("r", retry=wrong, store=fresh())  # type: ignore[arg-type]
        with pytest.raises(ac.RunMisuse, match="no policy"):
            ac.agent(retry=wrong)(lambda: 1)  # type: ignore[call-overload]


# -- what the log says to the next process ----------------------------------------------------------------------------


def agent_of(url: str, policy: Any, errors: list[BaseException | None]) -> ac.Agent[[str], str]:
    """An agent each attempt of which fails as told."""

    @ac.agent(name="told", retry=policy)
    def told(question: str) -> str:
        error = errors.pop(0)
        if error is not None:
            raise error
        return question.upper()

    return told.using(store=url)


def test_the_count_goes_on_over_processes() -> None:
    url = fresh()
    agent = agent_of(url, THRICE, [Down(), Down(), Down()])
    assert agent.submit("r", "q")
    for _ in range(3):  # each as a worker of its own would: nothing is known but what the log says
        with pytest.raises(Down):
            agent.attempt("r")
    assert ends(url, "r") == ["retryable", "retryable", "failed"]


def test_a_run_that_was_let_go_on_begins_its_count_anew() -> None:
    url = fresh()
    agent = agent_of(url, Retrying(stop=stop_after_attempt(2)), [Down(), Down(), Down(), None])
    with pytest.raises(Down):
        agent.run("r", "q")
    assert ac.get("r", store=url).state == "failed"
    assert agent.run("r", "q") == "Q", "its caller has decided to go on: two attempts more"
    assert ends(url, "r") == ["retryable", "failed", "retryable", "completed"]
    assert not logged(url, "r", Revived)


@pytest.mark.parametrize("passing", [ac.Interrupted(), ac.Suspended(), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_is_no_failure_takes_no_try(passing: BaseException) -> None:
    url = fresh()
    agent = agent_of(url, Retrying(stop=stop_after_attempt(2)), [Down(), passing, Down()])
    agent.submit("r", "q")
    with pytest.raises(Down):
        agent.attempt("r")
    with pytest.raises(type(passing)):
        agent.attempt("r")
    with pytest.raises(Down):
        agent.attempt("r")
    assert ends(url, "r") == ["retryable", "waiting" if isinstance(passing, ac.Suspended) else "interrupted", "failed"]


def test_the_time_since_the_first_attempt_goes_on_over_processes() -> None:
    url = fresh()
    agent = agent_of(url, Retrying(stop=stop_after_delay(0.3)), [Down(), Down()])
    agent.submit("r", "q")
    with pytest.raises(Down):
        agent.attempt("r")
    time.sleep(0.35)
    with pytest.raises(Down):
        agent.attempt("r")
    assert ends(url, "r") == ["retryable", "failed"]


PROCESS = """
import sys, agentcheckpoint as ac, warnings
from tenacity import Retrying, stop_after_attempt, wait_fixed
warnings.simplefilter("ignore")
for attempt in ac.attempts("r", retry=Retrying(stop=stop_after_attempt(2), wait=wait_fixed(4)), store=sys.argv[1]):
    with attempt as run:
        print("attempt", run.attempt, flush=True)
        if sys.argv[2] == "fail":
            raise ConnectionError("down")
"""


def test_a_process_that_is_killed_in_its_back_off_is_followed_by_one_that_waits_the_rest(embedded_url: str) -> None:
    command = [sys.executable, "-c", PROCESS, embedded_url]
    first = subprocess.Popen([*command, "fail"], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "attempt 1\n"
    deadline = time.monotonic() + 60
    while ac.get("r", store=embedded_url).state != "retryable":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = subprocess.run([*command, "succeed"], capture_output=True, text=True, timeout=120)
    assert done.stdout == "attempt 2\n", done.stderr
    [closed, _], [_, second] = logged(embedded_url, "r", Closed), logged(embedded_url, "r", Opened)
    assert closed.due is not None and closed.due - closed.at >= 3_900
    assert second.at >= closed.due - 20, "it did not wait the rest"
    assert ends(embedded_url, "r") == ["retryable", "completed"]


# -- the policy -------------------------------------------------------------------------------------------------------


def test_a_policy_is_never_changed_and_its_functions_are_called_as_tenacity_does() -> None:
    told: list[tuple[str, int, float | None]] = []

    def note(what: str) -> Any:
        def noted(state: RetryCallState) -> None:
            told.append((what, state.attempt_number, getattr(state.next_action, "sleep", None)))

        return noted

    policy = Retrying(
        stop=stop_after_attempt(2),
        wait=wait_fixed(0.01),
        before=note("before"),
        after=note("after"),
        before_sleep=note("before_sleep"),
    )
    before = dict(vars(policy))
    with pytest.raises(Down):
        agent_of(fresh(), policy, [Down(), Down()]).run("r", "q")
    assert told == [
        ("before", 1, None),
        ("after", 1, None),
        ("before_sleep", 1, 0.01),
        ("before", 2, None),
        ("after", 2, None),
    ]
    assert vars(policy) == before


def test_a_function_with_a_policy_lends_it() -> None:
    @retry(stop=stop_after_attempt(2), wait=wait_none())
    def other() -> None: ...

    url = fresh()
    assert agent_of(url, other, [Down(), None]).run("r", "q") == "Q"
    assert ends(url, "r") == ["retryable", "completed"]


def test_an_error_that_the_policy_does_not_cover_ends_the_run() -> None:
    url = fresh()
    with pytest.raises(Down):
        agent_of(url, Retrying(retry=retry_if_exception_type(TimeoutError)), [Down()]).run("r", "q")
    assert ends(url, "r") == ["failed"]


def test_a_mistake_in_the_program_is_not_tried_again() -> None:
    url = fresh()
    with pytest.raises(TypeError):
        agent_of(url, THRICE, [TypeError("unsupported operand")]).run("r", "q")
    assert ends(url, "r") == ["failed"]


def test_a_policy_whose_functions_raise_ends_the_run_with_the_error_of_the_attempt() -> None:
    def broken(state: RetryCallState) -> bool:
        raise ValueError("the policy itself")

    url = fresh()
    with pytest.raises(Down) as caught:
        agent_of(url, Retrying(retry=broken), [Down()]).run("r", "q")
    assert "its retry policy raised ValueError: the policy itself" in str(caught.value.__notes__)
    assert ends(url, "r") == ["failed"]


def test_the_policys_own_value_is_given_instead_of_the_last_error() -> None:
    url = fresh()
    policy = Retrying(stop=stop_after_attempt(2), retry_error_callback=lambda state: "instead")
    assert agent_of(url, policy, [Down(), Down()]).run("r", "q") == "instead"
    assert ends(url, "r") == ["retryable", "failed"], "it is given, and not recorded"


def test_what_the_other_side_asks_to_wait_is_waited() -> None:
    url = fresh()
    assert agent_of(url, THRICE, [Down(retry_after=0.4), None]).run("r", "q") == "Q"
    [first, _], [_, second] = logged(url, "r", Closed), logged(url, "r", Opened)
    assert first.due is not None and first.due - first.at >= 390
    assert second.at >= first.due - 20


@pytest.mark.parametrize("gains", [False, True])
def test_progress_resets_the_count(gains: bool) -> None:
    url, attempts = fresh(), list[int]()

    @ac.agent(name="slow", retry=Retrying(stop=ac.stop_if_no_progress(2, ceiling=5)))
    def slow() -> None:
        attempts.append(len(attempts))
        for n in range(len(attempts) if gains else 1):
            step(n)
        raise Down

    @ac.step(name="item", key=str)
    def step(n: int) -> int:
        return n

    with pytest.raises(Down):
        slow.using(store=url).run("r")
    assert len(attempts) == (5 if gains else 3), "the first attempt records a step; then two without any"


def test_a_run_stops_at_what_it_may_cost() -> None:
    url, attempts = fresh(), list[int]()

    @ac.agent(name="dear", retry=Retrying(stop=ac.stop_after_cost("0.02")))
    def dear() -> None:
        attempts.append(1)
        buy(len(attempts))
        raise Down

    @ac.step(key=str, cost="0.01")
    def buy(n: int) -> int:
        return n

    with pytest.raises(Down):
        dear.using(store=url).run("r")
    assert len(attempts) == 2
    assert ac.get("r", store=url).cost.spent == 20_000_000


# -- plain tenacity ---------------------------------------------------------------------------------------------------


def test_plain_tenacity_around_a_run_just_works() -> None:
    url, paid = fresh(), list[str]()

    @retry(stop=stop_after_attempt(3) | ac.stop_after_cost("1"), wait=wait_none(), reraise=True)
    def work() -> int:
        with ac.run("r", store=url) as run:
            run.step("paid", lambda: paid.append("once"))
            if run.attempt < 3:
                raise Down
            return run.attempt

    assert (work(), paid) == (3, ["once"])
    assert ends(url, "r") == ["retryable", "retryable", "completed"]


@pytest.mark.parametrize("passing", [ac.Suspended, ac.Interrupted])
def test_plain_tenacity_lets_pass_what_is_no_failure(passing: type[BaseException]) -> None:
    url = fresh()

    @retry(stop=stop_after_attempt(3), wait=wait_none())
    def work() -> None:
        with ac.run("r", store=url):
            raise passing

    with pytest.raises(passing):
        work()
    assert len(ends(url, "r")) == 1

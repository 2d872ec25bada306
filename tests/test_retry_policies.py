"""A policy that is asked decides as tenacity does when it runs; and it is left as it was."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import AsyncRetrying, BaseRetrying, RetryCallState, Retrying, TryAgain
from tenacity.asyncio import retry_if_exception as retry_if_exception_async

import agentcheckpoint as ac
from agentcheckpoint.core.progress import Progress
from agentcheckpoint.flow import Course, Invoke, Raised, Returned, _invoke, _invoke_async
from agentcheckpoint.retries.policy import Again, Decision, Over, Policy, Trial

Outcome = Exception | str


class Clock:
    """A monotonic clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@contextmanager
def clock() -> Iterator[Clock]:
    ticking = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", ticking)
        yield ticking


def run(course: Course[Any]) -> Any:
    """Runs a policy's course, blocking."""
    try:
        effect = next(course)
        while True:
            assert isinstance(effect, Invoke)
            effect = course.send(_invoke(effect))
    except StopIteration as stop:
        return stop.value


async def run_async(course: Course[Any]) -> Any:
    try:
        effect = next(course)
        while True:
            assert isinstance(effect, Invoke)
            effect = course.send(await _invoke_async(effect))
    except StopIteration as stop:
        return stop.value


def asked(policy: BaseRetrying, outcomes: list[Outcome], sleep: Callable[[float], None], seen: list[Any]) -> object:
    """What becomes of these outcomes when the policy is asked about each."""
    trial = Policy(policy).trial()
    for outcome in outcomes:
        run(trial.before())
        result = Raised(outcome) if isinstance(outcome, Exception) else Returned(outcome)
        decision: Decision = run(trial.judge(result, level="step", progress=None))
        if isinstance(decision, Again):
            run(trial.before_sleep())
            trial.go_on()
            seen.append(("sleep", decision.wait))
            sleep(decision.wait)
        elif decision.stopped:
            return ("fallback", run(trial.fallback())) if trial.has_fallback else ("stopped", outcome)
        else:
            return ("end", outcome)
    return "still going"


class Ended(BaseException):
    """The script has no more outcomes."""


def ran(policy: BaseRetrying, outcomes: list[Outcome], sleep: Callable[[float], None], seen: list[Any]) -> object:
    """What becomes of them when tenacity itself runs the policy."""
    script = list(reversed(outcomes))

    def function() -> str:
        outcome = script.pop()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def slept(seconds: float) -> None:
        seen.append(("sleep", float(seconds)))
        sleep(seconds)
        if not script:
            raise Ended

    try:
        value = policy.copy(sleep=slept)(function)
    except Ended:
        return "still going"
    except tenacity.RetryError as exc:
        last = exc.last_attempt
        return "stopped", last.exception() if last.failed else last.result()
    except Exception as exc:
        return "end", exc
    return ("fallback", value) if value == "fallback" else ("end", value)


SECONDS = st.sampled_from([0, 0.25, 1, 3, 10])
STOPS = st.recursive(
    st.one_of(
        st.integers(1, 5).map(tenacity.stop_after_attempt),
        SECONDS.map(tenacity.stop_after_delay),
        SECONDS.map(tenacity.stop_before_delay),
        st.just(tenacity.stop_never),
    ),
    lambda inner: st.tuples(inner, inner).flatmap(lambda two: st.sampled_from([two[0] | two[1], two[0] & two[1]])),
    max_leaves=3,
)
WAITS = st.recursive(
    st.one_of(
        SECONDS.map(tenacity.wait_fixed),
        st.just(tenacity.wait_none()),
        st.builds(tenacity.wait_incrementing, start=SECONDS, increment=SECONDS, max=SECONDS),
        st.builds(tenacity.wait_exponential, multiplier=SECONDS, max=st.sampled_from([2, 60])),
        st.lists(SECONDS.map(tenacity.wait_fixed), min_size=1, max_size=3).map(lambda some: tenacity.wait_chain(*some)),
    ),
    lambda inner: st.tuples(inner, inner).map(lambda two: two[0] + two[1]),
    max_leaves=3,
)
RETRIES = st.recursive(
    st.sampled_from(
        [
            tenacity.retry_if_exception_type(),
            tenacity.retry_if_exception_type(KeyError),
            tenacity.retry_if_not_exception_type(KeyError),
            tenacity.retry_unless_exception_type(KeyError),
            tenacity.retry_if_exception_message(match="bad"),
            tenacity.retry_if_result(lambda value: value == "poor"),
            tenacity.retry_if_not_result(lambda value: value == "good"),
            tenacity.retry_always,
            tenacity.retry_never,
        ]
    ),
    lambda inner: st.tuples(inner, inner).flatmap(lambda two: st.sampled_from([two[0] | two[1], two[0] & two[1]])),
    max_leaves=3,
)
OUTCOMES = st.lists(
    st.sampled_from(["good", "poor", "bad", "key", "again"]).map(
        lambda what: {"bad": ValueError("bad"), "key": KeyError("k"), "again": TryAgain()}.get(what, what)
    ),
    min_size=1,
    max_size=7,
)


@st.composite
def policies(draw: st.DrawFn, seen: list[Any]) -> BaseRetrying:
    def noted(name: str) -> Callable[[RetryCallState], None]:
        def hook(state: RetryCallState) -> None:
            times = state.seconds_since_start, state.idle_for, state.upcoming_sleep
            next_sleep = None if state.next_action is None else state.next_action.sleep
            seen.append((name, state.attempt_number, *times, next_sleep, state.outcome is None))

        return hook

    return Retrying(
        stop=draw(STOPS),
        wait=draw(WAITS),
        retry=draw(RETRIES),
        before=noted("before"),
        after=noted("after"),
        before_sleep=draw(st.sampled_from([None, noted("before_sleep")])),
        retry_error_callback=draw(st.sampled_from([None, lambda state: "fallback"])),
        enabled=draw(st.sampled_from([True] * 9 + [False])),
    )


SEEN: list[Any] = []


@settings(max_examples=300, deadline=None)
@given(policy=policies(SEEN), outcomes=OUTCOMES)
def test_asking_a_policy_does_what_running_it_does(policy: BaseRetrying, outcomes: list[Outcome]) -> None:
    told: list[Any] = []
    for way in (ran, asked):
        SEEN.clear()
        with clock() as ticking:
            end = way(policy, outcomes, ticking.sleep, SEEN)
        told.append((list(SEEN), end))
    assert told[1] == told[0]


def test_the_comparison_sees_a_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: with two of the policy's functions in each other's place it fails."""
    ask, other = Trial._ask, {"after": "before_sleep", "before_sleep": "after"}
    monkeypatch.setattr(Trial, "_ask", lambda self, name: ask(self, other.get(name, name)))
    with pytest.raises(AssertionError):
        test_asking_a_policy_does_what_running_it_does()


def attributes(policy: BaseRetrying) -> dict[str, Any]:
    return {**vars(policy), "_local": dict(vars(policy._local))}


@settings(max_examples=100, deadline=None)
@given(policy=policies([]), outcomes=OUTCOMES)
def test_a_policy_is_never_changed(policy: BaseRetrying, outcomes: list[Outcome]) -> None:
    before = attributes(policy)
    with clock() as ticking:
        asked(policy, outcomes, ticking.sleep, [])
    assert attributes(policy) == before


def test_running_a_policy_would_change_it() -> None:
    """The negative control of the test above."""
    policy = Retrying()
    before = attributes(policy)
    policy(str)
    assert attributes(policy) != before


# -- a series that goes on --------------------------------------------------------------------------------------------


def test_number_time_and_idle_time_go_on_from_what_is_given() -> None:
    policy = Policy(Retrying(stop=tenacity.stop_after_delay(100), wait=tenacity.wait_incrementing(1, 1, max=60)))
    with clock():
        trial = policy.trial(str, (1,), {"a": 2}, number=7, elapsed=90, idle_for=28)
        state = trial.state
        assert (trial.number, state.fn, state.args, state.kwargs, state.idle_for) == (7, str, (1,), {"a": 2}, 28)
        assert run(trial.judge(Raised(ValueError()), level="step", progress=None)) == Again(7)
        assert state.seconds_since_start == 90
        late = policy.trial(number=7, elapsed=100)
        assert run(late.judge(Raised(ValueError()), level="step", progress=None)).stopped


def test_the_conditions_see_the_progress_that_is_given() -> None:
    policy = Policy(Retrying(stop=ac.stop_after_cost("0.5") | ac.stop_if_no_progress(2)))

    def stopped(spent: int, *gained: int) -> bool:
        progress = Progress(spent, gained)
        decision = run(policy.trial().judge(Raised(ValueError()), level="run", progress=progress))
        return isinstance(decision, Over) and decision.stopped

    assert [stopped(499_999_999, 1), stopped(500_000_000, 1)] == [False, True]
    assert [stopped(0, 0), stopped(0, 1, 0), stopped(0, 1, 0, 0), stopped(0, 0, 0, 1)] == [False, False, True, False]


# -- async ------------------------------------------------------------------------------------------------------------


async def yes(error: BaseException) -> bool:
    await asyncio.sleep(0)
    return not isinstance(error, KeyError)


async def test_what_is_async_in_a_policy_is_awaited() -> None:
    seen: list[str] = []

    async def before_sleep(state: RetryCallState) -> None:
        await asyncio.sleep(0)
        seen.append("before_sleep")

    policy = Policy(
        AsyncRetrying(
            retry=retry_if_exception_async(yes),
            wait=tenacity.wait_fixed(2),
            stop=tenacity.stop_after_attempt(2),
            before_sleep=before_sleep,
        )
    )
    assert policy.is_async
    trial = policy.trial()
    assert await run_async(trial.judge(Raised(ValueError()), level="step", progress=None)) == Again(2)
    await run_async(trial.before_sleep())
    assert seen == ["before_sleep"]
    ended = await run_async(policy.trial().judge(Raised(KeyError()), level="step", progress=None))
    assert isinstance(ended, Over) and not ended.stopped


def test_what_is_async_in_a_policy_is_refused_where_nothing_is_awaited() -> None:
    hidden = Policy(Retrying(retry=lambda state: yes(ValueError())))  # nobody can tell before it is called
    assert not hidden.is_async
    with pytest.raises(ac.RunMisuse, match=r"retry=.* is async"):
        run(hidden.trial().judge(Raised(ValueError()), level="step", progress=None))


class Callable_:
    async def __call__(self, state: RetryCallState) -> bool:
        return True


@pytest.mark.parametrize("found", [yes, functools.partial(yes), Callable_()], ids=["function", "partial", "object"])
def test_what_is_async_is_seen_before_it_is_called(found: Any) -> None:
    assert Policy(Retrying(after=found)).is_async
    assert not Policy(AsyncRetrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(1))).is_async


# -- what is taken ----------------------------------------------------------------------------------------------------


@tenacity.retry(stop=tenacity.stop_after_attempt(2))
def decorated() -> None: ...


@tenacity.retry(stop=tenacity.stop_after_attempt(2))
async def decorated_async() -> None: ...


KINDS = ["sync", "async", "decorated", "decorated async"]


@pytest.mark.parametrize("given", [Retrying(), AsyncRetrying(), decorated, decorated_async], ids=KINDS)
def test_any_policy_is_taken(given: Any) -> None:
    assert Policy(given).retrying is getattr(given, "retry" if inspect.isfunction(given) else "__self__", given)
    assert ac.Step("s", retry=given).retry is given


NO_POLICIES = [3, True, "3", tenacity.stop_after_attempt(3), tenacity.retry(reraise=True), Retrying, tenacity, object()]


@pytest.mark.parametrize("given", NO_POLICIES, ids=lambda given: type(given).__name__)
def test_what_is_no_policy_is_refused_with_what_to_write(given: Any) -> None:
    with pytest.raises(ac.RunMisuse, match=r"Retrying\(stop=stop_after_attempt"):
        ac.Step("s", retry=given)
    with pytest.raises(ac.RunMisuse):
        ac.step(retry=given)(decorated.__wrapped__)

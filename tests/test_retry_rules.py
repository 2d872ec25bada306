"""What is never retried; how long the other side asks to wait; and what conditions know of a run."""

from __future__ import annotations

import builtins
import inspect
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tenacity
from tenacity import RetryCallState, Retrying

import agentcheckpoint as ac
from agentcheckpoint import errors
from agentcheckpoint.core.ids import enclosing
from agentcheckpoint.core.models import Closed, Done, Inputs, LogEntry, Opened, Payload, RunState
from agentcheckpoint.core.progress import Progress, causes, leave, left_on
from agentcheckpoint.core.tries import Series, Tries
from agentcheckpoint.retries.asked import MOST, asked_wait
from agentcheckpoint.retries.never import RULES, never, rule_of

OURS = [thing for thing in vars(errors).values() if inspect.isclass(thing) and not issubclass(thing, Warning)]


# -- never ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_of_ours_is_classified(kind: type[BaseException]) -> None:
    assert kind in RULES or not issubclass(kind, Exception), f"{kind.__name__}: say in retry/never.py who decides"


EXPECTED = {
    "never": [
        errors.InvalidName, errors.InvalidStore, errors.NotInstalled, errors.RunMisuse, errors.RunDeleted,
        errors.BudgetExceeded, errors.StepMismatch, errors.ResultNotStorable, errors.LeaseLost, errors.CheckpointsLost,
        errors.CheckpointCorrupt, errors.SchemaTooNew, NameError, UnboundLocalError, SyntaxError, ImportError,
        ModuleNotFoundError, NotImplementedError, TypeError, AttributeError, errors.RunExists, errors.RunCancelled,
        errors.NotApproved, errors.WaitTimeout, errors.WaitNotFound, errors.AlreadyAnswered,
        errors.AnswerRefused, errors.CrashLoop,
    ],
    "run": [errors.RunTimeout, errors.StoreError, errors.StoreUnavailable, errors.StoreRefused, errors.CommitUnknown],
    "policy": [
        errors.AgentCheckpointError, errors.RunNotFound, errors.RunBusy, errors.StepRejected, Exception, ValueError,
        OSError, TimeoutError, RuntimeError, StopIteration, tenacity.TryAgain, errors.StepTimeout,
    ],
}  # fmt: skip
CASES = [(kind, rule) for rule, kinds in EXPECTED.items() for kind in kinds]


def instance(kind: type[BaseException]) -> Any:
    return kind.__new__(kind)  # some of them take more than a message


@pytest.mark.parametrize(("kind", "rule"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_who_decides_about_an_error(kind: type[Exception], rule: str) -> None:
    derived = cast("type[Exception]", type("Derived", (kind,), {}))
    groups = [ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [instance(one)])]) for one in (kind, derived)]
    for error in (instance(kind), instance(derived), *groups):
        assert (never(error, "step") is None) == (rule == "policy")
        assert (never(error, "run") is None) == (rule in ("policy", "run"))


def test_nothing_in_the_table_is_left_untested() -> None:
    assert set(RULES) <= {kind for kind, _ in CASES}
    assert {kind: rule_of(kind) for kind, _ in CASES} == dict(CASES)


@pytest.mark.parametrize(
    "error",
    [ac.Suspended(), ac.Interrupted(), KeyboardInterrupt(), SystemExit(), GeneratorExit(),
     BaseExceptionGroup("g", [ValueError(), KeyboardInterrupt()])],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_is_no_failure_passes(error: BaseException) -> None:
    assert never(error, "step") and never(error, "run")


def test_the_classes_of_builtins_are_really_they() -> None:
    assert builtins.NotImplementedError in RULES and issubclass(errors.NotInstalled, ImportError)


# -- Retry-After ------------------------------------------------------------------------------------------------------

NOW = 1_795_000_000.0


class Refused(Exception):
    def __init__(self, **headers: str) -> None:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        self.response = SimpleNamespace(headers=named)


def with_attribute(value: object) -> Exception:
    error = ValueError()
    vars(error)["retry_after"] = value
    return error


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError()
    error.__cause__ = cause
    return error


class Hostile(Exception):
    @property
    def response(self) -> object:
        raise RuntimeError

    @property
    def retry_after(self) -> object:
        raise KeyError


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ValueError(), 0),
        (Refused(), 0),
        (Refused(retry_after="7"), 7),
        (Refused(retry_after="0.5"), 0.5),
        (Refused(retry_after_ms="250", retry_after="7"), 0.25),
        (Refused(retry_after_ms="soon", retry_after="7"), 7),
        (Refused(retry_after=formatdate(NOW + 30, usegmt=True)), 30),
        (Refused(retry_after=formatdate(NOW - 30, usegmt=True)), 0),
        (Refused(retry_after=formatdate(30, usegmt=True), date=formatdate(10, usegmt=True)), 20),
        (Refused(retry_after=formatdate(NOW + 30, usegmt=True), date="yesterday"), 30),
        (Refused(retry_after="soon"), 0),
        (Refused(retry_after="-3"), 0),
        (Refused(retry_after="nan"), 0),
        (Refused(retry_after="inf"), 0),
        (Refused(retry_after="1e9"), MOST),
        (with_attribute(3), 3),
        (with_attribute(2.5), 2.5),
        (with_attribute(True), 0),
        (with_attribute("3"), 0),
        (with_attribute(float("nan")), 0),
        (caused_by(Refused(retry_after="7")), 7),
        (ExceptionGroup("g", [ValueError(), caused_by(Refused(retry_after="7")), with_attribute(9)]), 9),
        (Hostile(), 0),
    ],
    ids=repr,
)
def test_how_long_an_error_asks_to_wait(error: Exception, seconds: float) -> None:
    assert asked_wait(error, NOW) == seconds


def test_causes_that_go_in_a_circle_end() -> None:
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    assert list(causes(one)) == [one, two]


# -- the wait of a failed try -----------------------------------------------------------------------------------------


def test_the_rest_of_a_wait_is_never_longer_than_it_was() -> None:
    series = Series(failed=1, last=10_000, next_at=15_000)
    assert [series.rest(now) for now in (10_000, 12_000, 15_000, 99_000)] == [5000, 3000, 0, 0]
    assert series.rest(0) == 5000, "the clock has gone back"
    assert Series(failed=1, last=10_000).rest(0) == 0


# -- conditions around a run ------------------------------------------------------------------------------------------


def state_of(error: Exception | None) -> RetryCallState:
    state = RetryCallState(Retrying(), None, (), {})
    if error is None:
        state.set_result(1)
    else:
        state.set_exception((type(error), error, None))
    return state


@pytest.mark.parametrize("condition", [ac.stop_after_cost(1), ac.stop_if_no_progress()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("error", [ValueError(), None], ids=["error", "result"])
def test_where_nobody_knows_how_far_it_has_come_a_condition_says_where_it_belongs(
    condition: Any, error: Exception | None
) -> None:
    with pytest.raises(ac.RunMisuse, match=r"around `with ac\.run"):
        condition(state_of(error))
    with pytest.raises(ac.RunMisuse):
        (tenacity.stop_after_attempt(9) | condition)(state_of(error))


def test_conditions_are_composed_as_tenacitys_own() -> None:
    error = ValueError()
    leave(error, Progress(2_000_000_000, (1, 0, 0)))
    state = state_of(error)
    cost, attempts, stuck = ac.stop_after_cost(2), tenacity.stop_after_attempt(2), ac.stop_if_no_progress(2)
    assert [cost(state), attempts(state), stuck(state)] == [True, False, True]
    assert [(cost & attempts)(state), (cost | attempts)(state), (attempts | cost & stuck)(state)] == [False, True, True]


def test_the_ceiling_holds_whatever_is_gained() -> None:
    error = ValueError()
    leave(error, Progress(0, (1,) * 24))
    assert not ac.stop_if_no_progress()(state_of(error))
    leave(error, Progress(0, (1,) * 25))
    assert ac.stop_if_no_progress()(state_of(error))
    leave(error, Progress(None, ()))
    state = state_of(error)
    state.attempt_number = 4
    assert not ac.stop_if_no_progress(ceiling=5)(state) and ac.stop_if_no_progress(ceiling=4)(state)


def test_what_was_left_is_found_behind_what_it_caused() -> None:
    error = ValueError()
    leave(error, Progress(1, (2,)))
    assert left_on(ExceptionGroup("g", [caused_by(error)])) == Progress(1, (2,))


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"ceiling": 0}])
def test_numbers_without_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ac.RunMisuse):
        ac.stop_if_no_progress(**wrong)


def test_an_amount_is_never_a_float() -> None:
    with pytest.raises(TypeError):
        ac.stop_after_cost(0.5)  # type: ignore[arg-type]


# -- what the log tells -----------------------------------------------------------------------------------------------


def opened(number: int) -> Opened:
    return Opened(id="o", at=0, attempt=number, worker="w")


def done(slot: str) -> Done:
    return Done(id="d", at=0, slot=slot, inputs=Inputs(digest="x"), payload=Payload(size=0))


def closed(state: RunState) -> Closed:
    return Closed(id="c", at=0, state=state)


@pytest.mark.parametrize(
    ("log", "gained"),
    [
        ([opened(1), done("a"), done("b"), closed("retryable"), opened(2)], (2, 0)),
        ([opened(1), opened(2), done("a"), opened(2)], (0, 1)),
        ([opened(1), closed("interrupted"), opened(2), closed("waiting"), opened(3)], (0,)),
        ([opened(1), done("a"), closed("interrupted"), opened(2)], (1, 0)),
        ([opened(1), closed("retryable"), opened(2), closed("completed"), opened(3)], (0,)),
    ],
    ids=["each attempt", "killed, and claimed twice", "let go without a gain", "let go with one", "completed before"],
)
def test_what_each_attempt_has_gained(log: list[LogEntry], gained: tuple[int, ...]) -> None:
    tries = Tries()
    for entry in log:
        tries.tell(entry)
    assert tries.gained() == gained


def test_a_step_is_inside_of_those_that_enclose_it_and_no_key_confuses_that() -> None:
    assert enclosing("a#2/b[https://x/y]]z]/c") == ["a#2", "a#2/b[https://x/y]]z]"]
    assert enclosing("a[x/y]") == []

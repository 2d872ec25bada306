"""An agent dies, its code is edited, and its run goes on: nothing is skipped, bricked, or paid twice without a word."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest
from memory_runs import fresh

import agentcheckpoint as ac


class Crash(BaseException):
    """The process is gone: no ``except Exception`` sees it."""


Code: TypeAlias = Callable[["Life"], None]


class Life:
    """What one process does in a run, and what it pays for."""

    def __init__(self, run: ac.Run) -> None:
        self.run, self.paid = run, list[str]()

    def buy(self, name: str, what: str | None = None, **options: Any) -> str:
        """A step that costs a cent."""

        def pay(order: str) -> str:
            self.paid.append(order)
            return f"{order}!"

        return self.run.step(ac.Step(name, cost="0.01", **options), pay, what or name)


def crash(_: Life) -> None:
    raise Crash


def steps(names: Iterable[str]) -> Code:
    """Code that calls one step after the other."""

    def code(life: Life) -> None:
        assert [life.buy(name) for name in names] == [f"{name}!" for name in names]

    return code


def live(url: str, *code: Code) -> list[str]:
    """A life of the run ``r``; returns what it paid for."""
    with ac.run("r", store=url) as run:
        life = Life(run)
        for part in code:
            part(life)
    return life.paid


def edited(old: Code, new: Code, said: str | None = None) -> list[str]:
    """The old code dies after its last step; the new code ends the run. Returns what the new code paid for."""
    url = fresh()
    with pytest.raises(Crash):
        live(url, old, crash)
    before = ac.get("r", store=url).cost.paid
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ac.UnmetStepsWarning)
        paid = live(url, new)
    told = [str(warning.message) for warning in caught]
    assert told == [] if said is None else said in told[0]
    after = ac.get("r", store=url)
    assert after.state == "completed" and after.cost.wasted == 0
    assert after.cost.paid == before + len(paid) * 10_000_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert live(url, new) == [], "once more, all of it is recorded"
    return paid


@pytest.mark.parametrize(
    ("old", "new", "paid", "said"),
    [
        pytest.param("abc", "cabd", "d", None, id="P6 reordered"),
        pytest.param("ab", "axb", "x", None, id="P7 inserted"),
        pytest.param("ab", "xab", "x", None, id="P7 inserted first"),
        pytest.param("ab", "abxy", "xy", None, id="A17 appended"),
        pytest.param("ab", "ax", "x", "1 step(s) that are recorded for it: 'b' ($0.01)", id="P8 R26 renamed"),
        pytest.param("abc", "c", "", "2 step(s) that are recorded for it: 'a', 'b' ($0.02)", id="P8 R29 removed"),
        pytest.param("aa", "aaa", "a", None, id="P16 of one name"),
        pytest.param("aaa", "a", "", "'a#2', 'a#3' ($0.02)", id="P16 fewer of one name"),
    ],
)
def test_steps_that_are_moved_inserted_or_taken_away(old: str, new: str, paid: str, said: str | None) -> None:
    assert edited(steps(old), steps(new), said) == list(paid)


def test_a_step_that_is_called_under_a_condition_may_be_missing_and_come_back() -> None:
    url = fresh()
    with pytest.raises(Crash):
        live(url, steps("abc"), crash)
    with pytest.raises(Crash):
        live(url, steps("ac"), crash)
    with pytest.warns(ac.UnmetStepsWarning, match=r"'b' \(\$0.01\)"):
        assert live(url, steps("ac")) == []
    assert live(url, steps("abc")) == []


def test_one_of_parallel_steps_that_failed_runs_again_and_its_siblings_do_not() -> None:
    def beside(fails: str) -> Code:
        def code(life: Life) -> None:
            def one(name: str) -> str:
                if name == fails:
                    raise ValueError(name)
                return life.buy("tool", name, key=name)

            with ThreadPoolExecutor(3) as pool:
                tried = [pool.submit(life.run.bind(one), name) for name in "abc"]
            life.run.step("join", lambda: [t.result() for t in tried]) if not fails else None

        return code

    assert edited(beside("b"), beside("")) == ["b"]


def test_steps_that_are_made_parallel_find_the_records_of_the_serial_ones() -> None:
    def serial(life: Life) -> None:
        for what in "abc":
            life.buy("tool", what)

    def parallel(life: Life) -> None:
        with ThreadPoolExecutor(3) as pool:
            assert {*pool.map(life.run.bind(lambda what: life.buy("tool", what)), "cba")} == {"a!", "b!", "c!"}

    assert edited(serial, parallel) == []


def outer(life: Life, then: Code = lambda _: None) -> None:
    def body() -> str:
        life.buy("inner")
        then(life)
        return "outer!"

    assert life.run.step("outer", body) == "outer!"


@pytest.mark.parametrize("dies", [True, False])
def test_an_inner_step_is_kept_when_the_outer_one_dies_and_is_not_asked_when_it_is_recorded(dies: bool) -> None:
    url = fresh()
    with pytest.raises(Crash):
        live(url, lambda life: outer(life, crash if dies else steps("")), crash)
    slots = {done.slot for done in ac.get("r", store=url).steps}
    assert ("outer/inner" in slots, live(url, outer)) == (True, [])


def test_an_inner_error_that_the_outer_step_raises_leaves_both_open() -> None:
    url = fresh()

    def fails(life: Life) -> None:
        life.run.step("bad", lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        live(url, lambda life: outer(life, fails))
    assert live(url, lambda life: outer(life, steps("x"))) == ["x"]


def test_a_step_that_is_moved_into_another_is_another_step_and_its_old_record_is_named() -> None:
    assert edited(steps(["inner"]), outer, "'inner' ($0.01)") == ["inner"]


def test_changed_inputs_pay_nothing_until_somebody_has_chosen() -> None:
    url = fresh()
    with pytest.raises(Crash):
        live(url, lambda life: (life.buy("a", "tea"), None)[-1], crash)
    for _ in range(2):
        with pytest.raises(ac.StepMismatch, match=r"It cost \$0.01"):
            live(url, lambda life: (life.buy("a", "rum"), None)[-1])
    assert live(url, lambda life: (life.buy("a", "rum", on_mismatch="reuse"), None)[-1]) == []
    assert live(url, lambda life: (life.buy("a", "rum", on_mismatch="rerun"), None)[-1]) == ["rum"]


def test_a_step_without_a_name_is_refused_before_anything_is_paid() -> None:
    url = fresh()
    with pytest.raises(ac.InvalidName):
        live(url, steps([""]))
    assert ac.get("r", store=url).cost.paid == 0

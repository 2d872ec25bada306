"""An agent's arguments are the same to whoever works on its run: its caller, or another process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from memory_runs import fresh

import agentcheckpoint as ac


@dataclass
class Point:
    x: float
    y: float


@ac.agent
def measure(seconds: float, at: Point, *more: float, **named: float) -> str:
    step = ac.step(name="look")(lambda *seen: repr(seen))
    found = step(seconds, at.x, list(more), dict(named))
    if named.get("fails"):
        raise ac.Interrupted
    return found


@pytest.mark.parametrize("how", ["submitted", "begun"])
def test_a_whole_number_for_a_float_is_the_same_call_in_another_process(how: str) -> None:
    url = fresh()
    mine = measure.using(store=url)
    if how == "submitted":
        assert mine.submit("r", 1, Point(2.0, 3.0), 4, named=5)
        assert not mine.submit("r", 1.0, Point(2.0, 3.0), 4.0, named=5.0), "the same run"
    else:
        with pytest.raises(ac.Interrupted):
            mine.run("r", 1, Point(2.0, 3.0), 4, fails=1)
        with pytest.raises(ac.Interrupted):
            mine.resume("r")
        return
    assert mine.resume("r") == "(1.0, 2.0, [4.0], {'named': 5.0})" == mine.run("r", 1, Point(2.0, 3.0), 4, named=5)

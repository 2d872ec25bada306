"""An error says in which run and step it came up, to people and to programs."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from memory_runs import fresh, logged
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.core.models import Failed


class Old(BaseModel):
    a: int


class New(BaseModel):
    b: int


class Opaque:
    """No type that pydantic knows."""


def old() -> Old:
    return Old(a=1)


def new() -> New:
    return New(b=1)


def stated(error: ac.AgentCheckpointError, step: str = "s") -> bool:
    return str(error).startswith(f"run 'r', step {step!r}: ") and (error.run_id, error.step) == ("r", step)


def test_a_record_that_no_longer_fits_its_type() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step("s", old)
    with pytest.raises(ac.CheckpointCorrupt, match="cannot be read as") as caught, ac.run("r", store=url) as run:
        run.step("s", new)
    assert stated(caught.value)


def test_a_record_that_no_longer_fits_its_type_when_it_is_begun() -> None:
    url = fresh()
    with ac.run("r", store=url) as run, run.begin("s", Old) as step:
        step.save(Old(a=1))
    with pytest.raises(ac.CheckpointCorrupt) as caught, ac.run("r", store=url) as run, run.begin("s", New):
        pass
    assert stated(caught.value)


def test_the_output_of_an_agent_that_no_longer_fits_its_type() -> None:
    url = fresh()
    ac.agent(name="a")(old).using(store=url).run("r")
    with pytest.raises(ac.CheckpointCorrupt, match=r"^run 'r', its output: ") as caught:
        ac.agent(name="a")(new).using(store=url).run("r")
    assert caught.value.run_id == "r"


@pytest.mark.parametrize("call", [lambda run, step: run.step(step, str), lambda run, step: run.begin(step)])
def test_a_type_that_cannot_be_stored(call: Callable[[ac.Run, ac.Step], Any]) -> None:
    with (
        pytest.raises(ac.RunMisuse, match="results of type") as caught,
        ac.run("r", store=fresh()) as run,
    ):
        call(run, ac.Step("s", returns=Opaque))
    assert stated(caught.value)


def test_an_annotation_that_cannot_be_found() -> None:
    def lost() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        return None

    with pytest.raises(ac.RunMisuse, match="cannot be resolved") as caught, ac.run("r", store=fresh()) as run:
        run.step("s", lost)
    assert stated(caught.value)


@pytest.mark.filterwarnings("error")
def test_a_coroutine_in_a_blocking_run_is_refused_and_closed() -> None:
    url = fresh()

    async def later() -> None: ...

    with pytest.raises(ac.RunMisuse, match="it is async") as caught, ac.run("r", store=url) as run:
        run.step("s", lambda: later())
    assert stated(caught.value)
    assert [entry.error.type for entry in logged(url, "r", Failed)] == ["RunMisuse"]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        gc.collect()
    assert not [warning for warning in seen if "never awaited" in str(warning.message)]


def test_something_else_that_would_have_to_be_awaited_is_refused_too() -> None:
    loop = asyncio.new_event_loop()
    with pytest.raises(ac.RunMisuse, match="it is async"), ac.run("r", store=fresh()) as run:
        run.step("s", loop.create_future)
    loop.close()


def test_what_a_function_raises_itself_is_not_changed() -> None:
    mine = ac.RunMisuse("mine")

    def fails() -> None:
        raise mine

    with pytest.raises(ac.RunMisuse) as caught, ac.run("r", store=fresh()) as run:
        run.step("s", fails)
    assert caught.value is mine
    assert str(mine) == "mine"

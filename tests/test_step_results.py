"""What a step returns the first time is what it returns on replay, in type and value; and what cannot be stored."""

from __future__ import annotations

import asyncio
import datetime
import enum
import functools
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, get_type_hints

import pytest
from memory_runs import fresh, logged
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Failed


@dataclass
class Point:
    x: int
    tags: set[str]


class Plan(BaseModel):
    urls: list[str]
    due: datetime.datetime | None = None


class Colour(enum.Enum):
    RED = "red"


def make_dataclass() -> Point:
    return Point(1, {"a", "b"})


def make_model() -> Plan:
    return Plan(urls=["u"], due=datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC))


def make_datetime() -> datetime.datetime:
    return datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)


def make_uuid() -> uuid.UUID:
    return uuid.UUID(int=7)


def make_tuple() -> tuple[int, tuple[str, ...]]:
    return 1, ("a", "b")


def make_set() -> frozenset[int]:
    return frozenset({1, 2})


def make_bytes() -> bytes:
    return b"\x00\xff"


def make_none() -> None:
    return None


def make_nothing_said():  # type: ignore[no-untyped-def]
    return {"a": [1, 2.5, None, True, "é\x00"], "": {}}


def make_decimal() -> Decimal:
    return Decimal("1.10")


def make_enum() -> list[Colour]:
    return [Colour.RED]


def make_models() -> dict[str, Plan | Point]:
    return {"a": Plan(urls=[]), "b": Point(2, set())}


def make_nan() -> list[float]:
    return [float("inf")]


MAKERS: list[Callable[[], object]] = [
    make_dataclass,
    make_model,
    make_datetime,
    make_uuid,
    make_tuple,
    make_set,
    make_bytes,
    make_none,
    make_nothing_said,
    make_decimal,
    make_enum,
    make_models,
    make_nan,
]
EACH = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def typed(value: object) -> object:
    """The value with its types in it, so that ``1`` and ``True`` are not equal."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, Point | Plan):
        return type(value), typed(vars(value))
    return type(value), value


@EACH
def test_fresh_equals_replayed(make: Callable[[], object]) -> None:
    url, values = fresh(), []
    for _ in range(2):
        with ac.run("r", store=url) as run:
            values.append(run.step("s", make))
    assert run.cost.replayed == 1
    assert typed(values[0]) == typed(values[1]) == typed(make())


@EACH
async def test_fresh_equals_replayed_in_an_async_run(make: Callable[[], object]) -> None:
    async def make_later() -> Any:
        await asyncio.sleep(0)
        return make()

    url, values = fresh(), []
    step = ac.Step("s", returns=get_type_hints(make).get("return", Any))
    for _ in range(2):
        async with ac.run("r", store=url) as run:
            values.append(await run.step(step, make_later))
            values.append(await run.step("sync", make))
    assert run.cost.replayed == 2
    assert len(values) == 4
    assert all(typed(value) == typed(make()) for value in values)


def test_the_first_result_is_the_round_trip_too() -> None:
    given = Plan(urls=["u"])
    with ac.run("r", store=fresh()) as run:
        got = run.step(ac.Step("s", returns=Plan), lambda: given)
    assert got == given
    assert got is not given


def test_an_argument_is_not_changed_by_what_the_caller_does_to_a_result() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step("s", make_nothing_said)["a"].append("mine")
    with ac.run("r", store=url) as run:
        assert run.step("s", make_nothing_said) == make_nothing_said()


def test_times_uuids_and_random_numbers_are_the_same_on_replay() -> None:
    url, seen = fresh(), []
    for _ in range(2):
        with ac.run("r", store=url) as run:
            seen.append([run.now(), run.now(), run.uuid(), run.random(), run.random()])
    assert seen[0] == seen[1]
    assert len(set(map(repr, seen[0]))) == 5
    assert seen[0][0].tzinfo == datetime.UTC
    assert abs(datetime.datetime.now(datetime.UTC) - seen[0][0]) < datetime.timedelta(minutes=1)


async def test_times_uuids_and_random_numbers_are_the_same_on_replay_in_an_async_run() -> None:
    url, seen = fresh(), []
    for _ in range(2):
        async with ac.run("r", store=url) as run:
            seen.append([await run.now(), await run.uuid(), await run.random()])
    assert seen[0] == seen[1]


# -- what cannot be stored --------------------------------------------------------------------------------------------


def test_an_unstorable_result_is_carried_with_its_path_and_stored_as_a_failed_attempt() -> None:
    url, result, calls = fresh(), {"a": [1, {"b": object()}]}, []

    def make():  # type: ignore[no-untyped-def]
        calls.append(1)
        return result

    for attempt in (1, 2):
        with pytest.raises(ac.ResultNotStorable, match="run 'r', step 's'") as caught, ac.run("r", store=url) as run:
            run.step("s", make)
        assert (caught.value.path, caught.value.run_id, caught.value.step) == ("$.a[1].b", "r", "s")
        assert caught.value.value is result
        assert len(calls) == attempt
    assert [entry.error.type for entry in logged(url, "r", Failed)] == ["ResultNotStorable"] * 2
    assert logged(url, "r", Done) == []


def test_a_type_that_cannot_be_stored_is_refused_before_the_function_runs() -> None:
    calls: list[int] = []

    class Strange: ...

    with pytest.raises(ac.RunMisuse, match="Strange"), ac.run("r", store=fresh()) as run:
        run.step(ac.Step("s", returns=Strange), calls.append, 1)
    assert calls == []


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "fn", [generator, async_generator, functools.partial(generator)], ids=["sync", "async", "partial"]
)
async def test_a_generator_is_refused_before_it_runs(fn: Callable[[], Any]) -> None:
    url = fresh()
    with pytest.raises(ac.RunMisuse, match="generator"), ac.run("r", store=url) as run:
        run.step("s", fn)
    with pytest.raises(ac.RunMisuse, match="generator"):
        async with ac.run("r", store=url) as async_run:
            await async_run.step("s", fn)
    assert logged(url, "r", Failed) == []


def test_what_can_be_consumed_only_once_is_no_result() -> None:
    with pytest.raises(ac.ResultNotStorable), ac.run("r", store=fresh()) as run:
        run.step("s", lambda: (n for n in range(3)))


def test_a_result_whose_type_has_changed_is_corrupt_and_not_run_again() -> None:
    url, calls = fresh(), []
    with ac.run("r", store=url) as run:
        run.step("s", make_datetime)

    def make() -> int:
        calls.append(1)
        return 1

    with pytest.raises(ac.CheckpointCorrupt), ac.run("r", store=url) as run:
        for _ in range(2):
            try:
                run.step("s", make)
            except ac.CheckpointCorrupt:
                continue
            raise AssertionError("it was run again")
        run.step("s", make)
    assert calls == []

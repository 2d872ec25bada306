"""The crash matrix, seeds and assertions of the test kit: each fails where an agent deserves it."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal

import pytest
from memory_runs import fresh
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.testing.asserting import assert_cost_below, assert_paid_once
from agentcheckpoint.testing.matrix import Bench, Case, crash_matrix
from agentcheckpoint.testing.provider import Provider
from agentcheckpoint.testing.seeding import seed_run

PRICES = {"m": ac.Price(input=Decimal(1), output=Decimal(1))}


class Plan(BaseModel):
    urls: list[str]


def make_plan(question: str) -> Plan:
    return Plan(urls=[f"{question}/{n}" for n in (1, 2)])


def fetch(url: str) -> str:
    return f"<{url}>"


def ask(client: OpenAI, text: str) -> str:
    said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    return said.choices[0].message.content or ""


def life(bench: Bench) -> str:
    client = ac.wrap(OpenAI(base_url=bench.provider.url, api_key="test"), prices=PRICES)
    with ac.run("r", store=bench.store, namespace=bench.namespace) as run:
        plan = run.step("plan", make_plan, "q")
        pages = [run.step(ac.Step("fetch", key=url), fetch, url) for url in plan.urls]
        return ask(client, " ".join(pages))


async def async_life(bench: Bench) -> str:
    client = ac.wrap(AsyncOpenAI(base_url=bench.provider.url, api_key="test"), prices=PRICES)
    async with ac.run("r", store=bench.store, namespace=bench.namespace) as run:
        plan = await run.step("plan", make_plan, "q")
        said = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": str(plan)}])
        return said.choices[0].message.content or ""


CASES = crash_matrix(life)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_agent_whose_work_is_in_steps_survives_any_crash(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("case", crash_matrix(async_life), ids=str)
def test_so_does_an_async_one(case: Case) -> None:
    case.check()


def test_there_is_a_case_for_each_side_of_each_commit() -> None:
    names = [str(case) for case in CASES]
    assert len(names) == len(set(names)) == 12
    assert names[0] == "before-intent-chat" and names[-1] == "after-closed-run"
    assert {"before-intent-chat", "after-intent-chat", "before-done-chat", "after-done-chat"} <= {*names}


def test_the_cases_do_not_depend_on_what_of_parallel_steps_was_first() -> None:
    """Under xdist each worker collects them; this suite's own matrices are collected so."""
    rests = iter([0.02, 0, 0, 0.02])

    async def rest(n: int) -> int:
        await asyncio.sleep(next(rests))
        return n

    async def parallel(bench: Bench) -> list[int]:
        async with ac.run("r", store=bench.store, namespace=bench.namespace) as run:
            return await asyncio.gather(*(run.step(ac.Step("rest", key=str(n)), rest, n) for n in (1, 2)))

    once, again = crash_matrix(parallel), crash_matrix(parallel)
    assert [*map(str, once)] == [*map(str, again)] and len(once) == 6


def test_an_agent_that_pays_outside_of_its_steps_fails_the_matrix() -> None:
    def careless(bench: Bench) -> str:
        client = OpenAI(base_url=bench.provider.url, api_key="test")
        said = ask(client, "q")
        with ac.run("r", store=bench.store, namespace=bench.namespace) as run:
            return run.step("use", fetch, said)

    for case in crash_matrix(careless):
        with pytest.raises(AssertionError, match="is in no ledger entry"):
            case.check()


def test_an_agent_that_executes_a_committed_step_again_fails_the_matrix() -> None:
    count = itertools.count()

    def forgetful(bench: Bench) -> str:
        with ac.run("r", store=bench.store, namespace=bench.namespace, on_mismatch="rerun") as run:
            run.step("use", fetch, str(next(count)))
            return "done"

    case = next(case for case in crash_matrix(forgetful) if str(case) == "after-done-use")
    with pytest.raises(AssertionError, match="step 'use' was committed, and was executed again"):
        case.check()


def test_an_agent_that_returns_something_else_after_a_crash_fails_the_matrix() -> None:
    count = itertools.count()

    def moody(bench: Bench) -> int:
        with ac.run("r", store=bench.store, namespace=bench.namespace) as run:
            run.step("use", fetch, "u")
            return next(count)

    with pytest.raises(AssertionError, match="it returned 1, and without a crash 0"):
        crash_matrix(moody)[0].check()


def test_a_seeded_run_goes_on_after_its_seed_with_typed_results() -> None:
    with Provider() as provider:
        bench = Bench(fresh(), "default", provider)
        with seed_run({"plan": Plan(urls=["mine"])}):
            life(bench)
        view = ac.get("r", store=bench.store)
        assert ([step.slot for step in view.steps], view.state) == (["plan"], "interrupted")
        assert life(bench) == "<mine>", "the plan was replayed, typed"
        assert_paid_once("r", provider, store=bench.store)


def index(start: int) -> list[int]:
    cursor, met = ac.Cursor(int, start=0), list[int]()
    while cursor.value < 5:
        met.append(cursor.value)
        cursor.set(cursor.value + 1)
    return met


async def index_async(start: int) -> list[int]:
    cursor, met = ac.AsyncCursor(int, start=0), list[int]()
    while cursor.value < 5:
        met.append(cursor.value)
        await cursor.set(cursor.value + 1)
    return met


def test_a_seeded_cursor_is_where_the_next_attempt_begins() -> None:
    def loop(url: str) -> list[int]:
        with ac.run("r", store=url) as run:
            return run.step("index", index, len(run.step("plan", make_plan, "q").urls))

    url = fresh()
    with seed_run({"plan": Plan(urls=["mine"])}, cursors={"index": 3}):
        loop(url)
    assert [step.slot for step in ac.get("r", store=url).steps] == ["plan"]
    assert loop(url) == [3, 4]


async def test_so_does_that_of_an_async_loop() -> None:
    async def loop(url: str) -> list[int]:
        async with ac.run("r", store=url) as run:
            return await run.step("index", index_async, 1)

    url = fresh()
    with seed_run(cursors={"index": 4}):
        await loop(url)
    assert await loop(url) == [4]


def test_a_cursor_of_a_step_that_is_not_called_is_an_error() -> None:
    with Provider() as provider, pytest.raises(AssertionError, match="'nothing'"), seed_run(cursors={"nothing": 1}):
        life(Bench(fresh(), "default", provider))


def test_a_seed_for_a_step_that_is_not_called_is_an_error() -> None:
    with Provider() as provider, pytest.raises(AssertionError, match="'fetched'"), seed_run({"fetched": "x"}):
        life(Bench(fresh(), "default", provider))


def test_a_seed_of_another_type_is_refused() -> None:
    with Provider() as provider, pytest.raises(ac.ResultNotStorable), seed_run({"plan": "no plan"}):
        life(Bench(fresh(), "default", provider))


def test_the_money_of_a_run_is_compared_with_what_is_said_of_it() -> None:
    with Provider() as provider:
        bench = Bench(fresh(), "default", provider)
        life(bench)
        assert_paid_once("r", store=bench.store)
        assert_cost_below("r", "0.05", store=bench.store)
        with pytest.raises(AssertionError, match="it was to be below"):
            assert_cost_below("r", "0.0000001", store=bench.store)
        ask(OpenAI(base_url=provider.url, api_key="test"), "paid outside")
        with pytest.raises(AssertionError, match="is in no ledger entry"):
            assert_paid_once("r", provider, store=bench.store)

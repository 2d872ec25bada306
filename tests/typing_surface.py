"""What the type checkers see of the public surface. Never run: ``test_typing.py`` gives it to mypy and pyright.

A line that must be an error bears an ignore comment; both checkers report a comment that ignores nothing.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import datetime
import functools
import math
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_type

from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionFunctionToolParam
from openai.types.responses import FunctionToolParam
from tenacity import AsyncRetrying, Retrying, retry, stop_after_attempt

import agentcheckpoint as ac
from agentcheckpoint import testing


@dataclass
class Plan:
    urls: list[str]


def make_plan(question: str, *, depth: int = 1) -> Plan:
    return Plan([question] * depth)


async def make_plan_async(question: str) -> Plan:
    return Plan([question])


class Box:
    def look(self, name: str) -> int:
        return len(name)

    async def look_async(self, name: str) -> int:
        return len(name)

    @ac.step
    def step_bare(self, name: str) -> int:
        return len(name)

    @ac.step(key=lambda self, name: name)
    async def step_async(self, name: str) -> int:
        return len(name)

    @ac.tool
    def tool_bare(self, name: str, *, limit: int = 1) -> int:
        return len(name) * limit

    @ac.tool(name="tool", retry=AsyncRetrying(stop=stop_after_attempt(3)))
    async def tool_async(self, name: str) -> int:
        return len(name)


@retry(stop=ac.stop_after_cost("0.5") | stop_after_attempt(3))
def retried() -> None: ...


# -- run.step -------------------------------------------------------------------------------------------------------


def blocking(box: Box) -> None:
    with ac.run("r", store="memory://", wait=5) as run:
        assert_type(run, ac.Run)
        assert_type(run.step("plan", make_plan, "q", depth=2), Plan)
        assert_type(run.step(ac.Step("plan", key="k", on_mismatch="reuse"), make_plan, "q"), Plan)
        assert_type(run.step("look", box.look, "n"), int)
        assert_type(run.step("partial", functools.partial(make_plan, depth=2), "q"), Plan)
        assert_type(run.step("lambda", lambda: 1), int)
        assert_type(run.llm(ac.Step("plan", model="m"), make_plan, "q"), Plan)
        assert_type(run.step(ac.Step("plan", cost="0.01"), make_plan, "q"), Plan)
        assert_type(run.step(ac.Step("plan", cost=lambda plan: "0.01", max_cost=1), make_plan, "q"), Plan)
        assert_type(run.step(ac.Step("plan", retry=Retrying(stop=ac.stop_if_no_progress())), make_plan, "q"), Plan)
        assert_type(run.step(ac.Step("plan", retry=retried), make_plan, "q"), Plan)
        ac.Step("plan", retry=stop_after_attempt(3))  # type: ignore[arg-type]
        run.charge("gpu", "0.02")
        run.charge(ac.Step("gpu", key="k"), 1)
        assert_type(run.finish(Plan([])), Plan)
        assert_type(run.now(), datetime.datetime)
        assert_type(run.uuid(), uuid.UUID)
        assert_type(run.random(), float)
        assert_type(run.cost, ac.CostReport)
        assert_type(run.id, str)
        assert_type(run.bind(box.look)("n"), int)

        with run.begin("draft", Plan) as draft:
            assert_type(draft.done, bool)
            if not draft.done:
                assert_type(draft.save(Plan([])), Plan)
            assert_type(draft.value, Plan)
            draft.save("x")  # type: ignore[arg-type]

        run.step("plan", make_plan, 1)  # type: ignore[arg-type]
        run.step("plan", make_plan)  # type: ignore[call-arg]
        run.step("plan", make_plan, "q", key="k")  # type: ignore[call-arg]
        run.step("plan", make_plan, "q").missing  # type: ignore[attr-defined]  # noqa: B018
        run.step(1, make_plan, "q")  # type: ignore[arg-type]
        ac.Step("plan", on_mismatch="no")  # type: ignore[arg-type]
        ac.run(id="r")  # type: ignore[call-arg]
        run.charge("gpu", 0.02)  # type: ignore[arg-type]
        ac.Step("plan", cost=0.01)  # type: ignore[arg-type]


async def awaiting_a_blocking_run() -> None:
    with ac.run("r") as run:
        await run.step("plan", make_plan, "q")  # type: ignore[misc]


async def on_a_loop(box: Box) -> None:
    async with ac.run("r") as run:
        assert_type(run, ac.AsyncRun)
        assert_type(await run.step("plan", make_plan_async, "q"), Plan)
        assert_type(await run.step("plan", make_plan, "q", depth=2), Plan)
        assert_type(await run.step(ac.Step("plan", returns=Plan), make_plan_async, "q"), Plan)
        assert_type(await run.step("look", box.look_async, "n"), int)
        assert_type(await run.step("partial", functools.partial(make_plan, depth=2), "q"), Plan)
        assert_type(await run.step("lambda", lambda: 1), int)
        assert_type(await run.llm("plan", make_plan_async, "q"), Plan)
        assert_type(run.finish(1), int)
        await run.charge("gpu", "0.02")
        run.charge("gpu", "0.02")  # type: ignore[unused-coroutine]
        assert_type(await run.now(), datetime.datetime)
        assert_type(await run.uuid(), uuid.UUID)
        assert_type(await run.random(), float)

        async with run.begin("draft", Plan) as draft:
            if not draft.done:
                assert_type(await draft.save(Plan([])), Plan)
            assert_type(draft.value, Plan)

        run.step("plan", make_plan_async, "q")  # type: ignore[unused-coroutine]
        await run.step("plan", make_plan_async, 1)  # type: ignore[call-overload]
        run.step("plan", make_plan_async, "q").urls  # type: ignore[attr-defined]  # noqa: B018


# -- decorators -----------------------------------------------------------------------------------------------------


@ac.step
def step_bare(question: str, *, depth: int = 1) -> Plan:
    return make_plan(question, depth=depth)


@ac.step(name="other", key=lambda question: question, ignore=("depth",), on_mismatch="rerun", retry=Retrying())
def step_named(question: str, *, depth: int = 1) -> Plan:
    return make_plan(question, depth=depth)


@ac.step
async def step_async(question: str) -> Plan:
    return await make_plan_async(question)


@ac.step(accept=lambda plan: bool(plan.urls))
async def step_async_named(question: str) -> Plan:
    return await make_plan_async(question)


@ac.tool
def tool_bare(question: str) -> Plan:
    return make_plan(question)


@ac.tool(name="tool", cost="0.01")
async def tool_async(question: str) -> Plan:
    return await make_plan_async(question)


@ac.agent
def research(question: str, *, depth: int = 1) -> Plan:
    return make_plan(question, depth=depth)


@ac.agent(name="other", on_mismatch="reuse", budget=ac.Budget("2"))
async def research_async(question: str) -> Plan:
    return await make_plan_async(question)


def steps(box: Box) -> None:
    assert_type(step_bare("q", depth=1), Plan)
    assert_type(step_named("q", depth=1), Plan)
    assert_type(box.step_bare("n"), int)
    as_function: Callable[[str], Plan] = step_bare
    as_function("q")

    step_bare(1)  # type: ignore[arg-type]
    step_named("q", depht=1)  # type: ignore[call-arg]
    box.step_bare(1)  # type: ignore[arg-type]
    ac.step("name")  # type: ignore[call-overload]
    ac.step(on_mismatch="no")  # type: ignore[call-overload]


async def steps_async(box: Box) -> None:
    assert_type(await step_async("q"), Plan)
    assert_type(await step_async_named("q"), Plan)
    assert_type(await box.step_async("n"), int)

    step_async("q")  # type: ignore[unused-coroutine]
    await step_async(1)  # type: ignore[arg-type]


async def tools(box: Box, client: OpenAI) -> None:
    assert_type(tool_bare("q"), Plan)
    assert_type(tool_bare.call('{"question": "q"}', id="call_1"), Plan)
    assert_type(tool_bare.call({"question": "q"}), Plan)
    assert_type(await tool_async("q"), Plan)
    assert_type(await tool_async.call("{}"), Plan)
    assert_type(box.tool_bare("n", limit=2), int)
    assert_type(box.tool_bare.call("{}", id="call_1"), int)
    assert_type(await box.tool_async("n"), int)
    assert_type(await box.tool_async.call("{}"), int)
    assert_type(tool_bare.name, str)
    assert_type(tool_bare.openai_schema, ChatCompletionFunctionToolParam)
    assert_type(box.tool_async.responses_schema, FunctionToolParam)
    client.chat.completions.create(model="m", messages=[], tools=[tool_bare.openai_schema, box.tool_bare.openai_schema])
    client.responses.create(model="m", input="q", tools=[tool_bare.responses_schema])

    tool_bare(1)  # type: ignore[arg-type]
    box.tool_bare(1)  # type: ignore[arg-type]
    tool_bare.call(1)  # type: ignore[arg-type]


async def agents() -> None:
    assert_type(research("q", depth=2), Plan)
    assert_type(research.run("r", "q", depth=2), Plan)
    assert_type(research.using(store="memory://", namespace="n", wait=5).run("r", "q"), Plan)
    assert_type(await research_async("q"), Plan)
    assert_type(await research_async.run("r", "q"), Plan)

    research.run("r", 1)  # type: ignore[arg-type]
    research.run("r")  # type: ignore[call-arg]
    research.run("r", "q", store="memory://")  # type: ignore[call-arg]
    research_async.run("r", "q")  # type: ignore[unused-coroutine]


# -- budgets --------------------------------------------------------------------------------------------------------


def cheaper(exceeded: ac.Exceeded) -> dict[str, str] | None:
    assert_type(exceeded.left, int)
    assert_type(exceeded.budget, ac.Budget)
    return {"model": "m"} if exceeded.kind == "usd" else None


def budgets() -> None:
    own = ac.Budget("2.50", 100_000, 40, assume_output=500, on_exceeded=cheaper)
    team = ac.Budget(20, name="team", window="day", count_tokens=lambda endpoint, body: len(body))
    ac.run("r", budget=own)
    ac.run("r", budget=[own, team])
    research.using(budget=own).run("r", "q")
    with ac.name("search", max_cost="0.05", max_tokens=9000):
        pass
    try:
        pass
    except ac.BudgetExceeded as error:
        assert_type(error.limit, int)
        assert_type(error.budget, str | None)

    ac.Budget(0.5)  # type: ignore[arg-type]
    ac.Budget(1, name="team", window="week")  # type: ignore[arg-type]
    ac.Budget(1, 2, 3, "team")  # type: ignore[call-arg]
    ac.run("r", budget="2")  # type: ignore[arg-type]


# -- effects and limits -----------------------------------------------------------------------------------------------


def found(order: str) -> ac.Happened[int] | None:
    return ac.Happened(3)


@ac.tool(effect="once", in_doubt="skip", timeout=30)
def refund(order: str) -> int | None:
    return None


@ac.step(effect="once", verify=found)
async def remind(order: str) -> int:
    return 1


async def effects(run: ac.Run, a_run: ac.AsyncRun) -> None:
    assert_type(refund("a"), int | None)
    assert_type(await remind("a"), int)
    assert_type(run.step(ac.Step("s", effect="once", in_doubt="rerun", timeout=1.5), refund, "a"), int | None)
    assert_type(ac.idempotency_key(), str)
    assert_type(ac.Happened("x").result, str)
    with run.begin("b", str) as begun:
        assert_type(begun.idempotency_key, str)
    async with a_run.begin("b", str) as a_begun:
        assert_type(a_begun.idempotency_key, str)
    ac.run("r", timeout=60)
    try:
        pass
    except (ac.StepTimeout, ac.RunTimeout):
        pass
    except ac.StepInDoubt as error:
        assert_type(error.idempotency_key, str)

    ac.Step("s", effect="twice")  # type: ignore[arg-type]
    ac.Step("s", effect="once", in_doubt="guess")  # type: ignore[arg-type]
    ac.step(effect="once", in_doubt="guess")  # type: ignore[call-overload]
    ac.run("r", timeout="1")  # type: ignore[arg-type]


# -- waits ----------------------------------------------------------------------------------------------------------


@ac.tool(approve=True)
def pay_out(order: int) -> str:
    return ""


@ac.step(approve=lambda order: f"Ship {order}?")
def ship(order: int) -> str:
    return ""


async def waits(run: ac.Run, a_run: ac.AsyncRun) -> None:
    assert_type(run.wait_for("w", ac.Approval, prompt="?", timeout=datetime.timedelta(days=1)), ac.Approval)
    assert_type(run.wait_for("w", bool, default=None), bool | None)
    assert_type(await a_run.wait_for(ac.Step("w", key="k"), bool, hold=math.inf), bool)
    assert_type(await a_run.wait_for("w", bool, timeout=1.5, default="late"), bool | str)
    assert_type(await a_run.sleep(5), None)
    run.sleep(datetime.timedelta(hours=1), hold=0)
    run.sleep(until=datetime.datetime.now(datetime.UTC), name="until then")
    assert_type(ac.Run.current(), ac.Run)
    assert_type(ac.AsyncRun.current(), ac.AsyncRun)
    assert_type(pay_out(1), str)
    assert_type(ship(1), str)
    ac.Step("s", approve="Pay?")
    answered = ac.answer("r", "w", {"ok": True}, by="ada", store="memory://", namespace="n")
    assert_type(answered, ac.Answered)
    assert_type(answered.by, str | None)
    assert_type(ac.waiting(store="memory://"), list[ac.Question])
    try:
        pass
    except ac.NotApproved as no:
        assert_type(no.note, str)
    except (ac.WaitTimeout, ac.WaitNotFound, ac.AlreadyAnswered, ac.AnswerRefused):
        pass

    run.sleep("1")  # type: ignore[arg-type]
    run.wait_for("w", bool, prompt=1)  # type: ignore[call-overload]
    ac.step(approve=1.5)  # type: ignore[call-overload]


# -- the rest -------------------------------------------------------------------------------------------------------


def clients() -> None:
    client = ac.wrap(OpenAI())
    assert_type(client, OpenAI)
    assert_type(ac.wrap(AsyncOpenAI()), AsyncOpenAI)
    client.responses.create(model=1, input="q")  # type: ignore[call-overload]
    ac.wrap("client")  # type: ignore[type-var]


def views() -> None:
    view = ac.get("r", store="memory://", namespace="n")
    assert_type(view, ac.RunView)
    assert_type(view.cost, ac.CostReport)
    assert_type(view.ledger, tuple[ac.LedgerEntry, ...])
    assert_type(ac.connect("memory://"), ac.Store)
    ac.delete("r", store=ac.connect())
    assert_type(view.size, ac.RunSize)
    ac.delete("r", keep_ledger=True)
    done = ac.prune(completed=datetime.timedelta(days=7), failed=None, store="memory://", limit=3)
    assert_type(done, ac.Pruned)
    assert_type(done.bytes, int)
    ac.prune(completed=7)  # type: ignore[arg-type]
    view.id = "x"  # type: ignore[misc]


def costs() -> None:
    table = ac.costs(by="step", runs=["r"], tag="team-a", store="memory://")
    assert_type(table, ac.CostTable)
    assert_type(table.rows[0].paid, int | None)
    ac.costs(by="colour")  # type: ignore[arg-type]
    assert_type(ac.settle("r", "entry", paid="0.01"), ac.LedgerEntry)
    assert_type(ac.settle_billed([("entry", "0.01"), ("other", ac.Usage())]).notes, tuple[str, ...])
    ac.run("r", tags=("team-a",))
    ac.agent(tags=["team-a"])


@ac.agent
def asked(question: str) -> int:
    return len(question)


def jobs() -> None:
    assert_type(ac.cancel("r", reason="why", store="memory://"), bool)
    ac.retry("r", namespace="n")
    found = ac.sweep(hand_over=lambda run_id, agent: print(run_id + agent), all=True)
    assert_type(found, ac.Swept)
    assert_type(found.due, dict[str, str])
    assert_type(ac.work_on(asked, "r"), ac.Worked)
    assert_type(ac.Worker([asked], concurrency=2).run(), int)
    ac.Worker([asked], on_attempt=lambda run_id, agent, worked, seconds: print(worked.state, seconds + 1))
    ac.work_on("asked", "r")  # type: ignore[arg-type]


def renewed(old: int) -> Plan:
    return Plan([str(old)])


def edited_steps() -> None:
    ac.Step("plan", version=2, max_age=60, migrate=renewed)
    ac.Step("plan", version="2026-07")
    ac.step(version=2, max_age=1.5, migrate=renewed)
    ac.Step("plan", version=1.5)  # type: ignore[arg-type]
    ac.Step("plan", max_age="1h")  # type: ignore[arg-type]
    ac.Step("plan", migrate="renewed")  # type: ignore[arg-type]


def one_life(bench: testing.Bench) -> str:
    assert_type(bench.provider.url, str)
    return "said"


def test_kit(provider: testing.Provider, case: testing.Case) -> None:
    with testing.crash("plan", at="before commit", how="kill"), testing.interrupt_after("plan"):
        pass
    testing.crash("plan", at="sometime")  # type: ignore[arg-type]
    with testing.seed_run({"plan": Plan(["u"])}, cursors={"index": 3}):
        pass
    assert_type(testing.crash_matrix(one_life, how="kill", store="redis://localhost"), list[testing.Case])
    testing.crash_matrix(one_life, how="nicely")  # type: ignore[arg-type]
    testing.crash_matrix(lambda: "no bench")  # type: ignore[arg-type, misc]
    case.check("memory://")
    provider.script("text", testing.reply("text", delay=0.1), testing.tool_call("search", {"q": "bees"}))
    provider.script(testing.error(429, retry_after=1), testing.cut_stream("half", after=2))
    testing.error("429")  # type: ignore[arg-type]
    testing.assert_paid_once("r", provider, store="memory://")
    testing.assert_cost_below("r", "0.05")
    testing.record("r", "run.jsonl", store="memory://")
    testing.assert_replays(asked, "run.jsonl")
    testing.assert_replays(one_life, "run.jsonl")
    testing.assert_replays("asked", "run.jsonl")  # type: ignore[arg-type]


def files() -> None:
    ac.export_run("r", "run.jsonl", store="memory://")
    ac.export_run("r", sys.stdout)
    assert_type(ac.import_run("run.jsonl", as_="copy", namespace="n"), str)
    ac.export_run("r", b"run.jsonl")  # type: ignore[arg-type]

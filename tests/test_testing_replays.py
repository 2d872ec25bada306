"""Recorded runs, replayed without a provider: today's agent passes, and each kind of drift fails with a diff."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory_runs import fresh
from openai import AsyncOpenAI, OpenAI

import agentcheckpoint as ac
from agentcheckpoint.testing.crashing import crash
from agentcheckpoint.testing.matrix import Bench
from agentcheckpoint.testing.provider import Provider
from agentcheckpoint.testing.replaying import assert_replays, record

executed: list[str] = []


def plan(question: str) -> list[str]:
    executed.append("plan")
    return [f"{question}/{n}" for n in (1, 2)]


def look(place: str) -> str:
    executed.append(place)
    return f"<{place}>"


def ask(client: OpenAI, *texts: str) -> str:
    messages: Any = [{"role": "user", "content": text} for text in texts]
    said = client.chat.completions.create(model="m", messages=messages)
    return said.choices[0].message.content or ""


def life(
    bench: Bench,
    *,
    system: str = "be brief",
    more: bool = False,
    skip: bool = False,
    end: str = "",
    step: ac.Step | None = None,
) -> str:
    client = ac.wrap(OpenAI(base_url=bench.provider.url, api_key="test", max_retries=0))
    with ac.run("r", store=bench.store, namespace=bench.namespace) as run:
        places = run.step(step or "plan", plan, "q")
        pages = [run.step(ac.Step("look", key=place), look, place) for place in places[skip:]]
        if more:
            run.step("check", look, "more")
        said = ask(client, system, "a", "b", " ".join(pages) if not skip else "<q/1> <q/2>")
        run.finish({"said": said, "end": end})
        return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Provider() as provider:
        bench = Bench(fresh(), "default", provider)
        life(bench)
        record("r", tmp_path / "run.jsonl", store=bench.store)
        assert len(provider.journal) == 1
    executed.clear()
    return tmp_path / "run.jsonl"


def drifted(path: Path, how: Callable[[Bench], Any]) -> list[str]:
    """The lines of the diff that differ."""
    with pytest.raises(AssertionError, match="run 'r' does not replay") as failed:
        assert_replays(how, path)
    return [line for line in str(failed.value).splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def test_the_agent_that_was_recorded_replays_and_executes_nothing(path: Path) -> None:
    assert_replays(life, path)
    assert not executed


def test_a_prompt_that_drifted_is_shown_by_its_message(path: Path) -> None:
    lines = drifted(path, lambda bench: life(bench, system="be long"))
    assert lines == ["-  messages[0]: user: be brief", "+  messages[0]: user: be long"]
    assert not executed


def test_an_input_that_drifted_is_shown(path: Path) -> None:
    def other(bench: Bench) -> None:
        with ac.run("r", store=bench.store, namespace=bench.namespace) as run:
            run.step("plan", plan, "another question")

    assert drifted(path, other) == ["-  question: 'q'", "+  question: 'another question'"]
    assert not executed


def test_drift_is_drift_where_a_resume_would_let_it_pass(path: Path) -> None:
    def lenient(bench: Bench) -> None:
        with ac.run("r", store=bench.store, namespace=bench.namespace, on_mismatch="reuse") as run:
            run.step("plan", plan, "another question")

    assert drifted(path, lenient) == ["-  question: 'q'", "+  question: 'another question'"]


def test_an_output_that_changed_is_shown(path: Path) -> None:
    assert drifted(path, lambda bench: life(bench, end="!")) == ['-    "end": ""', '+    "end": "!"']


def test_a_step_that_was_added_is_shown_and_not_executed(path: Path) -> None:
    assert drifted(path, lambda bench: life(bench, more=True)) == ["+step check", "+  place: 'more'"]
    assert not executed


def test_a_step_that_was_removed_is_shown(path: Path) -> None:
    assert drifted(path, lambda bench: life(bench, skip=True)) == ["-step look[q/1]", "-  place: 'q/1'"]


def test_another_version_of_a_step_is_drift_unless_it_is_bridged(path: Path) -> None:
    assert drifted(path, lambda bench: life(bench, step=ac.Step("plan", version=2))) == [
        "-  version: —",
        "+  version: 2",
    ]
    assert_replays(lambda bench: life(bench, step=ac.Step("plan", version=2, on_mismatch="reuse")), path)


def test_how_old_the_file_is_does_not_matter(path: Path) -> None:
    assert_replays(lambda bench: life(bench, step=ac.Step("plan", max_age=60)), path)
    text = path.read_text("utf-8")
    aged = text.replace('"at":1', '"at":0')
    assert aged != text
    path.write_text(aged.replace('"at":0', '"at":'), "utf-8")
    assert_replays(lambda bench: life(bench, step=ac.Step("plan", max_age=60)), path)


def test_code_that_catches_everything_does_not_hide_that_it_drifted(path: Path) -> None:
    def hiding(bench: Bench) -> None:
        try:
            life(bench, more=True)
        except BaseException:
            return

    assert drifted(path, hiding) == ["+step check", "+  place: 'more'"]


def test_what_asks_the_provider_outside_of_its_steps_is_found(path: Path) -> None:
    def careless(bench: Bench) -> None:
        life(bench)
        try:
            ask(OpenAI(base_url=bench.provider.url, api_key="test", max_retries=0), "q")
        except Exception:
            return

    with pytest.raises(AssertionError, match=r"1 request\(s\) outside of its steps"):
        assert_replays(careless, path)


def test_another_run_that_is_opened_inside_is_drift(path: Path) -> None:
    def two(bench: Bench) -> None:
        with ac.run("other", store=bench.store, namespace=bench.namespace) as run:
            run.step("plan", plan, "q")

    assert drifted(path, two)[0] == "+step plan of run 'other'"


def test_parallel_steps_may_come_in_another_order_and_inner_ones_are_not_asked_for(tmp_path: Path) -> None:
    order = itertools.count()

    async def slow(n: int) -> int:
        return n

    def outer() -> str:
        return inner("x")

    @ac.step
    def inner(text: str) -> str:
        return text

    async def parallel(bench: Bench) -> int:
        async with ac.run("p", store=bench.store, namespace=bench.namespace) as run:
            await run.step("outer", outer)
            numbers = [1, 2, 3] if not next(order) else [3, 1, 2]
            client = ac.wrap(AsyncOpenAI(base_url=bench.provider.url, api_key="test", max_retries=0))
            await client.embeddings.create(model="e", input="text")
            return sum(await asyncio.gather(*(run.step(ac.Step("slow"), slow, n) for n in numbers)))

    with Provider() as provider:
        bench = Bench(fresh(), "default", provider)
        asyncio.run(parallel(bench))
        record("p", tmp_path / "p", store=bench.store)
    assert_replays(parallel, tmp_path / "p")


def test_an_agent_gets_its_recorded_arguments(tmp_path: Path) -> None:
    url, words = fresh(), ["bees"]

    @ac.step(name="look")
    def looking(place: str) -> str:
        return look(place)

    @ac.agent(name="research")
    def research(question: str, depth: int = 1) -> str:
        return looking(f"{question} {words[0]} {depth}")

    research.using(store=url).run("a-1", "q", depth=2)
    record("a-1", tmp_path / "a", store=url)
    assert_replays(research, tmp_path / "a")
    words[0] = "ants"
    with pytest.raises(AssertionError, match="q ants 2"):
        assert_replays(research, tmp_path / "a")


def test_a_run_that_is_not_completed_is_not_recorded(tmp_path: Path) -> None:
    with Provider() as provider, crash("plan"):
        url = fresh()
        life(Bench(url, "default", provider))
    with pytest.raises(ac.RunMisuse, match="'r' is running: record one that is completed"):
        record("r", tmp_path / "r", store=url)

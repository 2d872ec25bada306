"""What an opening makes of a run that exists; what is stored with a run; runs that are made for others to begin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from memory_runs import ask, fresh, logged
from pydantic import BaseModel

import agentcheckpoint as ac
from agentcheckpoint.core.arguments import decode_arguments, encode_arguments
from agentcheckpoint.core.models import Birth, Closed, Opened, Restarted


class Question(BaseModel):
    text: str
    depth: int = 1


@ac.agent
def research(question: Question, *more: int, tone: str = "plain", **rest: float) -> str:
    run_step(question.text)
    return f"{question.text}/{question.depth}/{more}/{tone}/{rest}"


@ac.step(name="look", key=str, cost="0.01")
def run_step(text: str) -> str:
    LOOKED.append(text)
    return text


LOOKED: list[str] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    LOOKED.clear()


# -- on_existing ------------------------------------------------------------------------------------------------------


def test_must_demands_a_run_and_makes_none() -> None:
    url = fresh()
    with pytest.raises(ac.RunNotFound, match="'r'"), ac.run("r", store=url, on_existing="must"):
        pass
    with pytest.raises(ac.RunNotFound):
        ac.get("r", store=url)
    with ac.run("r", store=url):
        pass
    with ac.run("r", store=url, on_existing="must") as run:
        assert run.attempt == 2


def test_never_refuses_a_run_that_exists_and_changes_nothing() -> None:
    url = fresh()
    with ac.run("r", store=url, on_existing="never") as run:
        run.step("a", int, "1")
    before = ac.get("r", store=url)
    with pytest.raises(ac.RunExists, match="completed, 1 attempt"), ac.run("r", store=url, on_existing="never"):
        pass
    assert ac.get("r", store=url) == before


def test_fresh_replays_nothing_and_forgets_no_cent() -> None:
    url = fresh()
    agent = research.using(store=url)
    assert agent.run("r", Question(text="one")) == "one/1/()/plain/{}"
    assert agent.run("r", Question(text="one")) == "one/1/()/plain/{}"
    assert LOOKED == ["one"]
    again = agent.using(on_existing="fresh")
    assert again.run("r", Question(text="two")).startswith("two")
    assert LOOKED == ["one", "two"], "other arguments are no mismatch: it is begun anew"
    assert agent.run("r", Question(text="two")).startswith("two")
    view = ac.get("r", store=url)
    assert (view.cost.spent, view.attempt, [row.slot for row in view.steps]) == (20_000_000, 2, ["look[two]"])
    assert len(logged(url, "r", Restarted)) == 1


def test_fresh_begins_a_run_that_is_not_there() -> None:
    url = fresh()
    with ac.run("r", store=url, on_existing="fresh") as run:
        assert run.attempt == 1
    assert not logged(url, "r", Restarted)


def test_a_run_that_was_begun_afresh_and_died_goes_on_with_its_new_life() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step("a", int, "1")
    with pytest.raises(KeyError), ac.run("r", store=url, on_existing="fresh") as run:
        assert run.step("a", int, "2") == 2, "no mismatch: what was recorded is of an earlier life"
        raise KeyError
    with ac.run("r", store=url) as run:
        assert run.step("a", int, "2") == 2
        assert run.cost.replayed == 1


def test_an_unknown_way_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ac.RunMisuse, match="on_existing='maybe'"):
        ac.run("r", on_existing="maybe")  # type: ignore[arg-type]


# -- what is stored with a run ----------------------------------------------------------------------------------------


def test_metadata_and_conversation_are_noted_when_the_run_is_begun() -> None:
    url = fresh()
    for n in range(2):
        with ac.run("turn-1", store=url, metadata={"user": str(n)}, conversation="chat-7"):
            pass
    [birth] = logged(url, "turn-1", Birth)
    assert (birth.metadata, birth.conversation) == ({"user": "0"}, "chat-7")
    view = ac.get("turn-1", store=url)
    assert (view.metadata, view.conversation) == ({"user": "0"}, "chat-7")


@pytest.mark.parametrize(
    "wrong", [["a"], {"a": 1}, {1: "a"}, {"": "a"}, {"a": "x" * 1001}, {str(n): "" for n in range(51)}]
)
def test_metadata_are_a_few_texts(wrong: Any) -> None:
    with pytest.raises(ac.InvalidName, match="metadata"):
        ac.run("r", metadata=wrong)


def test_arguments_come_back_as_they_went() -> None:
    call: tuple[Any, ...] = (Question(text="q", depth=2), 3, 4)
    data = encode_arguments(research.__wrapped__, call, {"tone": "dry", "x": 0.5})
    assert decode_arguments(research.__wrapped__, data) == (call, {"tone": "dry", "x": 0.5})
    bare = encode_arguments(research.__wrapped__, (Question(text="q"),), {"y": 1.0})
    assert decode_arguments(research.__wrapped__, bare) == ((Question(text="q"),), {"y": 1.0})


def test_arguments_that_do_not_fit_the_function_any_more_are_named() -> None:
    data = encode_arguments(research.__wrapped__, (Question(text="q"),), {})

    def renamed(query: Question) -> None: ...

    with pytest.raises(ac.CheckpointCorrupt, match=r"do not fit .*renamed"):
        decode_arguments(renamed, data)


# -- made for others to begin -----------------------------------------------------------------------------------------


def test_a_submitted_run_is_begun_by_whoever_resumes_it() -> None:
    url = fresh()
    agent = research.using(store=url, metadata={"from": "web"})
    assert agent.submit("r", Question(text="q"), 3, tone="dry", x=0.5)
    view = ac.get("r", store=url)
    assert (view.state, view.attempt, view.agent) == ("waiting", 0, "research")
    assert not LOOKED and not logged(url, "r", Opened)
    assert agent.resume("r") == "q/1/(3,)/dry/{'x': 0.5}"
    assert agent.resume("r") == "q/1/(3,)/dry/{'x': 0.5}"
    assert LOOKED == ["q"]
    assert [end.state for end in logged(url, "r", Closed)] == ["completed"]


def test_what_is_stored_of_the_arguments_counts_as_size() -> None:
    agent = research.using(store=fresh())
    agent.submit("short", Question(text="q"))
    agent.submit("long", Question(text="q" * 400))
    short, long = (ac.get(name, store=agent._store).size.results for name in ("short", "long"))
    assert long - short == 399


def test_submitting_twice_makes_one_run_and_other_arguments_are_a_mismatch() -> None:
    agent = research.using(store=fresh())
    assert agent.submit("r", Question(text="q"))
    assert not agent.submit("r", Question(text="q"))
    with pytest.raises(ac.StepMismatch):
        agent.submit("r", Question(text="another"))
    with pytest.raises(ac.RunExists):
        agent.using(on_existing="never").submit("r", Question(text="q"))


def test_a_run_that_was_submitted_is_due() -> None:
    url = fresh()
    research.using(store=url).submit("r", Question(text="q"))
    assert ask(url, "ZRANGE", "ac:{runs-default}:due", "0", "-1") == [b"r"]
    research.using(store=url).resume("r")
    assert ask(url, "ZRANGE", "ac:{runs-default}:due", "0", "-1") == []


def test_what_another_process_could_not_be_given_is_refused() -> None:
    @ac.agent
    def on_client(client: object) -> None: ...

    url = fresh()
    with pytest.raises(ac.ResultNotStorable, match="argument 'client'"):
        on_client.using(store=url).submit("r", object())
    with pytest.raises(ac.RunNotFound):
        ac.get("r", store=url)
    on_client.using(store=url).run("r", object())
    with pytest.raises(ac.RunMisuse, match="its arguments are not stored"):
        on_client.using(store=url).resume("r")


def test_a_run_is_resumed_by_its_own_agent_alone() -> None:
    url = fresh()
    research.using(store=url).submit("r", Question(text="q"))

    @ac.agent
    def other(question: Question) -> None: ...

    with pytest.raises(ac.StepMismatch, match="started by agent 'research'"):
        other.using(store=url).resume("r")


def test_a_duplicate_joins_the_run_of_equal_arguments_or_is_refused() -> None:
    url = fresh()
    agent = research.using(store=url)
    name = agent.id_for(Question(text="q"), tone="dry")
    assert name == agent.id_for(Question(text="q", depth=1), tone="dry") != agent.id_for(Question(text="q"))
    first = agent.run(name, Question(text="q"), tone="dry")
    assert agent.run(agent.id_for(Question(text="q"), tone="dry"), Question(text="q"), tone="dry") == first
    assert LOOKED == ["q"]
    with pytest.raises(ac.RunExists):
        agent.using(on_existing="never").run(name, Question(text="q"), tone="dry")


def test_an_async_agent_is_resumed_on_a_loop() -> None:
    @ac.agent
    async def ask_it(question: Question) -> str:
        return question.text

    url = fresh()
    agent = ask_it.using(store=url)
    agent.submit("r", Question(text="q"))
    assert asyncio.run(agent.resume("r")) == "q"


def test_submitting_eight_times_at_once_makes_one_run() -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = fresh()
    agent = research.using(store=url)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: agent.submit("r", Question(text="q")), range(8)))
    assert sum(made) == 1
    assert len(logged(url, "r", Birth)) == 1

"""``@ac.step``, ``@ac.tool`` and ``@ac.agent``: the same steps and runs as the call forms make."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

import agentcheckpoint as ac
from agentcheckpoint.recipe import is_async

calls: list[str] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of the test's own; also the default one."""
    url = f"memory://{uuid.uuid4().hex}"
    monkeypatch.setenv("AGENTCHECKPOINT_URL", url)
    return url


@dataclass
class Page:
    url: str
    words: tuple[int, ...]


@ac.step
def fetch(url: str, words: int = 2) -> Page:
    """Fetches."""
    calls.append(url)
    return Page(url, tuple(range(words)))


@ac.step(key=lambda url, words: f"{url} {words}")
def fetch_keyed(url: str, words: int = 2) -> Page:
    calls.append(url)
    return Page(url, (words,))


@ac.step
async def afetch(url: str) -> Page:
    calls.append(url)
    await asyncio.sleep(0)
    return Page(url, (1,))


@dataclass
class Box:
    """Its state is no input of its steps."""

    opened: int = 0

    @ac.step
    def fetch(self, url: str) -> Page:
        calls.append(url)
        self.opened += 1
        return Page(url, (self.opened,))

    @ac.step(name="afetch")
    async def fetch_async(self, url: str) -> str:
        calls.append(url)
        return url

    @staticmethod
    @ac.step
    def plain(url: str) -> str:
        calls.append(url)
        return url

    @classmethod
    @ac.step
    def of(cls, url: str) -> str:
        calls.append(url)
        return cls.__name__ + url

    @ac.tool
    def search(self, query: str, limit: int = 5) -> list[str]:
        """Searches the box."""
        calls.append(query)
        return [query] * limit


@ac.tool
def search(query: str, limit: Annotated[int, Field(ge=1, description="how many")] = 2) -> list[str]:
    """Searches the web.

    All of it.
    """
    calls.append(query)
    return [query] * limit


@ac.tool(name="look-up")
async def look_up(page: Page) -> str:
    calls.append(page.url)
    return page.url


@ac.tool
def now() -> None:
    calls.append("now")


def slots(run_id: str, url: str) -> list[tuple[str, str | None]]:
    return [(row.slot, row.kind) for row in ac.get(run_id, store=url).steps]


# -- step -----------------------------------------------------------------------------------------------------------


def test_a_decorated_function_is_a_step_of_the_current_run_and_replays_with_its_type(url: str) -> None:
    for _ in range(2):
        with ac.run("r"):
            assert fetch("a") == Page("a", (0, 1))
            assert fetch("b") == Page("b", (0, 1))
    assert calls == ["a", "b"]
    assert slots("r", url) == [("fetch", "step"), ("fetch#2", "step")]


async def test_a_decorated_async_function_is_a_step_and_takes_its_slot_when_it_is_called(url: str) -> None:
    async with ac.run("r"):
        first, second = afetch("a"), afetch("b")
        assert (await second).url == "b"
        assert (await first).url == "a"
    async with ac.run("r"):
        assert await afetch("a") == Page("a", (1,))
        await afetch("b")
    assert calls == ["b", "a"]
    log = [entry for entry in ac.get("r", store=url).entries if entry.k == "done"]
    assert [(entry.slot, entry.inputs.arguments[0].preview) for entry in log] == [
        ("afetch#2", "'b'"),
        ("afetch", "'a'"),
    ]


async def test_a_blocking_step_works_inside_an_async_run_and_an_async_one_inside_a_blocking_run(url: str) -> None:
    for _ in range(2):
        async with ac.run("outer"):
            assert fetch("a").url == "a"
        with ac.run("inner"):
            assert (await afetch("b")).url == "b"
    assert calls == ["a", "b"]


def test_a_key_is_made_from_the_arguments_with_their_defaults(url: str) -> None:
    with ac.run("r"):
        fetch_keyed("a")
        fetch_keyed(words=2, url="a")
        fetch_keyed("a", 3)
    assert calls == ["a", "a"]
    assert [slot for slot, _ in slots("r", url)] == ["fetch_keyed[a 2]", "fetch_keyed[a 3]"]


def test_steps_called_inside_a_step_are_its_children(url: str) -> None:
    @ac.step
    def outer() -> str:
        return fetch("a").url

    with ac.run("r"):
        outer()
    assert [slot for slot, _ in slots("r", url)] == ["outer/fetch", "outer"]


def test_other_inputs_than_recorded_are_a_mismatch_unless_the_decorator_says_otherwise(url: str) -> None:
    answers = iter("abcdef")

    def ask(question: str, client: object = None) -> str:
        return next(answers) + question

    strict = ac.step(ask)
    reuse, rerun, ignoring = (
        ac.step(name="ask", on_mismatch="reuse")(ask),
        ac.step(name="ask", on_mismatch="rerun")(ask),
        ac.step(name="deaf", ignore=("question",))(ask),
    )
    with ac.run("r"):
        assert strict("1") == "a1"
        assert ignoring("1") == "b1"
    with pytest.raises(ac.StepMismatch, match="question"), ac.run("r"):
        strict("2")
    with ac.run("r"):
        assert reuse("2") == "a1"
        assert ignoring("2") == "b1"
    with ac.run("r"):
        assert rerun("2") == "c2"
        assert ignoring("3") == "b1"


def test_accept_refuses_an_answer_and_the_step_runs_again(url: str) -> None:
    answers = iter([0, 1])

    @ac.step(accept=lambda value: value > 0)
    def ask() -> int:
        return next(answers)

    with ac.run("r"):
        with pytest.raises(ac.StepRejected):
            ask()
        assert ask() == 1


def test_returns_says_the_type_where_the_annotation_does_not(url: str) -> None:
    @ac.step(returns=set[int])
    def ask():  # type: ignore[no-untyped-def]
        calls.append("ask")
        return {1, 2}

    for _ in range(2):
        with ac.run("r"):
            assert ask() == {1, 2}
    assert calls == ["ask"]


def test_an_error_of_the_function_is_raised_unchanged_and_the_step_runs_again(url: str) -> None:
    failing = [True]

    @ac.step
    def flaky() -> str:
        if failing.pop():
            raise KeyError("away")
        return "here"

    failing.append(True)
    with pytest.raises(KeyError, match="away"), ac.run("r"):
        flaky()
    failing[:] = [False]
    with ac.run("r"):
        assert flaky() == "here"


def test_methods_are_steps_and_what_they_are_bound_to_is_no_input(url: str) -> None:
    for opened in (0, 7):  # the box has another state when the run is resumed
        box = Box(opened)
        with ac.run("r"):
            assert box.fetch("a") == Page("a", (1,))
            assert Box.plain("b") == "b"
            assert Box.of("c") == "Boxc"
    assert calls == ["a", "b", "c"]
    assert box.opened == 7


async def test_async_methods_are_steps(url: str) -> None:
    for _ in range(2):
        async with ac.run("r"):
            assert await Box().fetch_async("a") == "a"
    assert calls == ["a"]


# -- outside a run --------------------------------------------------------------------------------------------------


def test_outside_a_run_the_function_just_runs_and_warns_once_where_it_was_called() -> None:
    step, tool = ac.step(lambda: 1), ac.tool(name="t")(lambda: 2)
    with pytest.warns(ac.NoActiveRunWarning, match="no run is active") as seen:
        assert step() == 1
        assert tool() == 2
    assert [warning.filename for warning in seen] == [__file__, __file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step() == 1
        assert tool.call("{}") == 2


def test_a_tool_that_a_model_called_warns_at_the_callers_line() -> None:
    with pytest.warns(ac.NoActiveRunWarning) as seen:
        assert ac.tool(name="t")(lambda: 2).call("{}", id="x") == 2
    assert seen[0].filename == __file__


async def test_outside_a_run_an_async_function_just_runs() -> None:
    @ac.step
    async def ask() -> int:
        return 1

    with pytest.warns(ac.NoActiveRunWarning):
        coroutine = ask()
    assert await coroutine == 1


def test_a_thread_without_the_run_warns_and_one_that_is_bound_records(url: str) -> None:
    ask = ac.step(name="ask")(lambda: calls.append("ran"))

    def in_thread(work: Any) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    with ac.run("r") as run:
        for _ in range(2):  # each time: what is not recorded now is paid for again
            with pytest.warns(ac.NoActiveRunWarning, match=r"'r' is open in this process.*run\.bind") as seen:
                in_thread(ask)
            assert len(seen) == 1
        in_thread(run.bind(ask))
    assert len(slots("r", url)) == 1
    assert len(calls) == 3


def test_a_function_that_was_called_outside_of_runs_before_still_warns_where_one_is_open(url: str) -> None:
    ask = ac.step(name="ask")(lambda: calls.append("ran"))
    with pytest.warns(ac.NoActiveRunWarning):
        ask()
    with ac.run("r", store=url) as run, pytest.warns(ac.NoActiveRunWarning, match="'r' is open") as seen:
        contextvars.Context().run(ask)
    assert seen[0].filename == __file__
    assert run.cost.attempts == 0


def test_switched_off_nothing_is_recorded_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    research = ac.agent(name="research")(lambda q: (fetch(q), q))  # a tuple: not changed by a round trip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ac.step(lambda: 1)() == 1
        with ac.run("r"):
            assert ac.step(lambda: 2)() == 2
            assert search.call('{"query": "x"}', id="1") == ["x", "x"]
        assert research.run("a", "b") == (Page("b", (0, 1)), "b")
        assert research("b") == (Page("b", (0, 1)), "b")
    monkeypatch.delenv("AGENTCHECKPOINT")
    for run_id in ("r", "a"):
        with pytest.raises(ac.RunNotFound):
            ac.get(run_id, store=url)


# -- what is refused when it is decorated ---------------------------------------------------------------------------


def numbers() -> Iterator[int]:
    yield 1


async def anumbers() -> AsyncIterator[int]:
    yield 1


def a_lock() -> threading.Lock:
    return threading.Lock()


@pytest.mark.parametrize("decorator", [ac.step, ac.step(), ac.tool, ac.tool(), ac.agent, ac.agent()])
def test_generators_and_unstorable_results_are_refused_before_anything_is_paid(decorator: Any) -> None:
    for generator in (numbers, anumbers):
        with pytest.raises(ac.RunMisuse, match=rf"{generator.__name__} is a generator.*list"):
            decorator(generator)
    with pytest.raises(ac.RunMisuse, match="lock"):
        decorator(a_lock)
    with pytest.raises(ac.RunMisuse, match="below @classmethod"):
        decorator(classmethod(lambda cls: None))
    with pytest.raises(ac.RunMisuse, match="name="):
        decorator("fetch")
    with pytest.raises(ac.RunMisuse, match="no name"):
        decorator(functools.partial(fetch, "a"))


def test_returns_is_checked_when_it_is_given() -> None:
    with pytest.raises(ac.RunMisuse):
        ac.step(returns=threading.Event)(lambda: None)


def test_names_and_policies_are_checked_when_they_are_given() -> None:
    with pytest.raises(ac.InvalidName):
        ac.step(name="a/b")(lambda: None)
    with pytest.raises(ac.InvalidName, match="tool"):
        ac.tool(name="look up")(lambda: None)
    with pytest.raises(ac.InvalidName):
        ac.agent(name="")(lambda: None)
    for decorator in (ac.step, ac.agent):
        with pytest.raises(ac.RunMisuse, match="on_mismatch='no'"):
            decorator(name="x", on_mismatch="no")(lambda: None)  # type: ignore[call-overload]


@dataclass
class Late:
    n: int


def test_a_type_that_comes_later_in_the_module_is_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @ac.step
    def later() -> Later:  # noqa: F821
        return Late(1)

    @ac.tool
    def tool_later(later: Later) -> Later:  # noqa: F821
        return later

    @ac.agent
    def agent_later() -> Later:  # noqa: F821
        return Late(2)

    with ac.run("early"), pytest.raises(ac.RunMisuse, match="Later"):
        later()
    with pytest.raises(ac.RunMisuse, match="Later"):
        _ = tool_later.openai_schema
    with pytest.raises(ac.RunMisuse, match="Later"):
        agent_later.run("early-agent")
    monkeypatch.setitem(globals(), "Later", Late)
    for _ in range(2):
        with ac.run("r"):
            assert later() == Late(1)
            assert tool_later.call('{"later": {"n": 3}}', id="c") == Late(3)
        assert agent_later.run("a") == Late(2)


# -- what stays of the function -------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorated", [fetch, ac.step()(fetch), search, Box().search])
def test_a_decorated_function_keeps_its_name_documentation_and_signature(decorated: Any) -> None:
    assert decorated.__name__ in ("fetch", "search")
    assert decorated.__doc__
    assert "self" not in inspect.signature(decorated).parameters
    assert decorated.__wrapped__.__name__ == decorated.__name__


def test_decorated_async_functions_are_known_as_such() -> None:
    assert is_async(afetch) and is_async(look_up) and is_async(Box().fetch_async.__func__)
    assert asyncio.iscoroutinefunction(afetch)
    assert not is_async(fetch) and not is_async(search)


# -- tool -----------------------------------------------------------------------------------------------------------


def test_a_tool_announces_itself_as_chat_completions_take_it() -> None:
    assert search.openai_schema == {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Searches the web.\n\nAll of it.",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "title": "Query"},
                    "limit": {
                        "type": "integer",
                        "title": "Limit",
                        "default": 2,
                        "minimum": 1,
                        "description": "how many",
                    },
                },
                "required": ["query"],
                "additionalProperties": False,
            },
        },
    }
    assert "description" not in look_up.openai_schema["function"]
    search.openai_schema["function"]["parameters"].clear()
    assert search.openai_schema["function"]["parameters"], "each caller gets a schema of his own"


def test_a_tool_announces_itself_as_responses_take_it() -> None:
    chat = search.openai_schema["function"]
    assert search.responses_schema == {"type": "function", "strict": False, **chat}
    assert "$defs" in (look_up.responses_schema["parameters"] or {})
    assert now.responses_schema["parameters"] == {"type": "object", "properties": {}, "additionalProperties": False}


def test_a_tool_of_an_object_takes_no_self_from_the_model(url: str) -> None:
    box = Box()
    assert box.search.openai_schema["function"]["parameters"].keys() >= {"properties", "required"}
    assert list(box.search.openai_schema["function"]["parameters"]["properties"]) == ["query", "limit"]  # type: ignore[call-overload]
    assert box.search.openai_schema["function"]["description"] == "Searches the box."
    for state in (0, 1):
        with ac.run("r"):
            assert Box(state).search("q", limit=1) == ["q"]
            assert Box(state).search.call({"query": "p", "limit": 1}, id="c1") == ["p"]
    assert calls == ["q", "p"]


def test_a_models_call_is_a_step_by_its_call_id_and_replays(url: str) -> None:
    for _ in range(2):
        with ac.run("r"):
            assert search.call('{"query": "x", "limit": "3"}', id="call_1") == ["x"] * 3
            assert search.call({"query": "x"}, id="call_2") == ["x"] * 2
            assert search.call({"query": "y"}) == ["y"] * 2
            assert search("z") == ["z"] * 2
    assert calls == ["x", "x", "y", "z"]
    assert slots("r", url) == [
        ("search[call_1]", "tool"),
        ("search[call_2]", "tool"),
        ("search", "tool"),
        ("search#2", "tool"),
    ]


async def test_an_async_tool_gets_its_arguments_in_their_types(url: str) -> None:
    for _ in range(2):
        async with ac.run("r"):
            arguments = '{"page": {"url": "u", "words": [1]}}'
            assert await asyncio.gather(look_up.call(arguments, id="a"), look_up.call(arguments, id="b")) == ["u", "u"]
    assert calls == ["u", "u"]


@pytest.mark.parametrize(
    "arguments",
    ['{"limit": 1}', '{"query": "x", "limit": 0}', '{"query": "x", "no": 1}', '{"query": ', "[]", {"query": 1}],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_runs(url: str, arguments: Any) -> None:
    with ac.run("r"), pytest.raises(ValidationError):
        search.call(arguments, id="call_1")
    assert calls == []
    assert slots("r", url) == []


async def test_an_async_tool_refuses_arguments_when_it_is_awaited(url: str) -> None:
    async with ac.run("r"):
        good = look_up.call('{"page": {"url": "u", "words": []}}', id="a")
        bad = look_up.call("{}", id="b")
        answers = await asyncio.gather(good, bad, return_exceptions=True)
    assert answers[0] == "u"
    assert isinstance(answers[1], ValidationError)


def test_a_tool_whose_arguments_a_model_cannot_give_is_refused_when_it_is_decorated() -> None:
    def positional(*words: str) -> None: ...

    def connected(lock: threading.Lock) -> None: ...

    def calls_back(done: Callable[[], None]) -> None: ...

    with pytest.raises(ac.RunMisuse, match="by position"):
        ac.tool(positional)
    with pytest.raises(ac.RunMisuse, match="lock"):
        ac.tool(connected)
    with pytest.raises(ac.RunMisuse, match="no JSON schema"):
        ac.tool(calls_back)


# -- agent ----------------------------------------------------------------------------------------------------------


@ac.agent
def research(question: str, depth: int = 1) -> Page:
    """Researches."""
    calls.append(f"body {question}")
    return Page(fetch(question).url, (depth,))


@ac.agent(name="aresearch")
async def research_async(question: str) -> Page:
    calls.append(f"body {question}")
    return await afetch(question)


def test_an_agent_without_an_id_is_a_new_run_each_time(url: str) -> None:
    assert research("q") == research("q") == Page("q", (1,))
    assert calls == ["body q", "q"] * 2


def test_a_completed_run_of_an_agent_returns_its_output_without_running_the_body(url: str) -> None:
    assert research.run("r", "q", depth=3) == Page("q", (3,))
    assert calls == ["body q", "q"]
    assert research.run("r", "q", 3) == Page("q", (3,))
    assert calls == ["body q", "q"]
    view = ac.get("r", store=url)
    assert (view.state, view.attempt) == ("completed", 1), "it was only read"
    assert view.attempts[0].agent == "research"


async def test_an_async_agent_does_the_same(url: str) -> None:
    for _ in range(2):
        assert await research_async.run("r", "q") == Page("q", (1,))
    assert calls == ["body q", "q"]
    assert await research_async("q") == Page("q", (1,))


def test_a_run_of_an_agent_that_failed_goes_on_after_its_last_step(url: str) -> None:
    broken = [True]

    @ac.agent(name="research")
    def fragile(question: str) -> str:
        page = fetch(question)
        if broken:
            raise TimeoutError("away")
        return page.url

    with pytest.raises(TimeoutError, match="away"):
        fragile.run("r", "q")
    assert ac.get("r", store=url).state == "retryable"
    broken.clear()
    assert fragile.run("r", "q") == "q"
    assert calls == ["q"]
    assert ac.get("r", store=url).cost.replayed == 1


def test_an_output_of_none_is_an_output(url: str) -> None:
    @ac.agent
    def quiet() -> None:
        calls.append("ran")

    assert quiet.run("r") is None  # type: ignore[func-returns-value]
    assert quiet.run("r") is None  # type: ignore[func-returns-value]
    assert calls == ["ran"]


def test_the_first_output_is_already_what_a_replay_gives_or_it_is_refused(url: str) -> None:
    research = ac.agent(name="a", returns=list[int])(lambda: (1, 2))
    with pytest.raises(ac.ResultNotStorable, match="run 'r', its output") as caught:
        ac.agent(name="a")(lambda: {1}).run("r")
    assert caught.value.value == {1}
    assert ac.get("r", store=url).state == "retryable"
    with pytest.raises(ac.ResultNotStorable):  # no annotation says how to read it
        ac.agent(name="a")(lambda: Page("u", ())).run("r")
    assert research.run("r2") == research.run("r2") == [1, 2]


def test_other_arguments_are_a_mismatch_and_leave_the_run_as_it_was(url: str) -> None:
    research.run("r", "q")
    before = ac.get("r", store=url)
    with pytest.raises(ac.StepMismatch, match="recorded 'q', came 'p'"):
        research.run("r", "p")
    assert ac.get("r", store=url).entries == before.entries
    assert research.run("r", "q") == Page("q", (1,))


def test_other_arguments_are_a_mismatch_before_the_run_is_completed_too(url: str) -> None:
    broken = [True]

    @ac.agent
    def fragile(question: str) -> str:
        if broken:
            raise TimeoutError
        return question

    with pytest.raises(TimeoutError):
        fragile.run("r", "q")
    broken.clear()
    with pytest.raises(ac.StepMismatch, match="recorded 'q', came 'p'"):
        fragile.run("r", "p")
    assert fragile.run("r", "q") == "q"


def test_an_unfinished_run_is_for_the_arguments_that_it_was_started_with(url: str) -> None:
    broken = [True]

    def body(question: str) -> str:
        if broken:
            raise TimeoutError
        return question

    strict, rerun = ac.agent(body), ac.agent(on_mismatch="rerun")(body)
    for agent, question in ((strict, "q"), (rerun, "p")):
        with pytest.raises(TimeoutError):
            agent.run("r", question)
    broken.clear()
    with pytest.raises(ac.StepMismatch):
        strict.run("r", "p")
    assert strict.run("r", "q") == "q"


def test_on_mismatch_reuse_returns_the_old_output_and_rerun_makes_a_new_one(url: str) -> None:
    def body(question: str) -> str:
        calls.append(f"body {question}")
        return fetch(question).url

    ac.agent(body).run("r", "q")
    assert ac.agent(on_mismatch="reuse")(body).run("r", "p") == "q"
    assert calls == ["body q", "q"]
    assert ac.agent(on_mismatch="rerun")(body).run("r", "p") == "p"
    assert calls == ["body q", "q", "body p", "p"]
    assert ac.agent(body).run("r", "p") == "p", "the output is that of the attempt that made it"
    assert calls == ["body q", "q", "body p", "p"]


def test_a_run_belongs_to_one_agent(url: str) -> None:
    research.run("r", "q")
    other = ac.agent(name="other")(research.__wrapped__)
    with pytest.raises(ac.StepMismatch, match=r"agent 'research'.*agent 'other'"):
        other.run("r", "q")


def test_a_plain_run_in_between_does_not_make_other_arguments_welcome(url: str) -> None:
    research.run("r", "q")
    with ac.run("r"):
        fetch("q")
    with pytest.raises(ac.StepMismatch, match="started with other arguments"):
        research.run("r", "p")
    assert research.run("r", "q") == Page("q", (1,))


def test_a_call_that_cannot_be_made_leaves_no_run_behind(url: str) -> None:
    with pytest.raises(TypeError, match="question"):
        research.run("r")  # type: ignore[call-arg]
    with pytest.raises(ac.RunNotFound):
        ac.get("r", store=url)


def test_an_output_of_a_plain_run_is_not_taken_for_the_agents(url: str) -> None:
    with ac.run("r") as run:
        run.finish(Page("other", ()))
    assert research.run("r", "q") == Page("q", (1,))


def test_a_step_that_was_added_reopens_the_run_and_its_old_output_is_no_longer_given(url: str) -> None:
    research.run("r", "q")
    with pytest.raises(TimeoutError), ac.run("r"):
        fetch("q")
        fetch("more")
        raise TimeoutError
    calls.clear()
    with pytest.warns(ac.UnmetStepsWarning, match="fetch#2"):
        assert research.run("r", "q") == Page("q", (1,))
    assert calls == ["body q"]


def test_a_deleted_run_of_an_agent_is_not_begun_anew(url: str) -> None:
    research.run("r", "q")
    ac.delete("r", store=url)
    with pytest.raises(ac.RunDeleted):
        research.run("r", "q")


def test_an_agent_can_be_bound_to_a_store_and_a_namespace(url: str) -> None:
    elsewhere = f"memory://{uuid.uuid4().hex}"
    there = research.using(store=elsewhere).using(namespace="other")
    assert there.run("r", "q") == Page("q", (1,))
    assert ac.get("r", store=elsewhere, namespace="other").state == "completed"
    with pytest.raises(ac.RunNotFound):
        ac.get("r", store=url)
    assert research.using().run("r", "q") == Page("q", (1,))
    assert ac.get("r", store=url).state == "completed"
    assert there.__name__ == "research"
    assert there.__doc__ == "Researches."


def test_an_agents_own_arguments_may_be_called_as_ours(url: str) -> None:
    @ac.agent
    def taking(id: str, store: str, namespace: str, wait: int) -> list[object]:
        return [id, store, namespace, wait]

    assert taking.run("r", id="i", store="s", namespace="n", wait=1) == ["i", "s", "n", 1]


def test_another_worker_that_completes_the_run_meanwhile_gives_its_output(url: str) -> None:
    started, go_on = threading.Event(), threading.Event()

    @ac.agent
    def slow(question: str) -> str:
        calls.append("body")
        started.set()
        assert go_on.wait(60)
        return question

    first = threading.Thread(target=lambda: slow.run("r", "q"))
    first.start()
    assert started.wait(60)
    with pytest.raises(ac.RunBusy):
        slow.run("r", "q")
    release = threading.Timer(0.1, go_on.set)
    release.start()
    assert slow.using(wait=60).run("r", "q") == "q"
    first.join()
    assert calls == ["body"]


async def test_an_async_agent_waits_for_another_worker_too(url: str) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @ac.agent
    async def slow(question: str) -> str:
        calls.append("body")
        started.set()
        await go_on.wait()
        return question

    first = asyncio.create_task(slow.run("r", "q"))
    await started.wait()
    with pytest.raises(ac.RunBusy):
        await slow.run("r", "q")
    asyncio.get_running_loop().call_later(0.1, go_on.set)
    assert await slow.using(wait=60).run("r", "q") == "q"
    assert await first == "q"
    assert calls == ["body"]


def test_busy_inside_the_body_is_the_bodys_own_error(url: str) -> None:
    @ac.agent
    def nested() -> str:
        calls.append("body")
        raise ac.RunBusy("inner", run_id="inner", owner="x", ttl=1)

    with pytest.raises(ac.RunBusy, match="inner"):
        nested.using(wait=5).run("r")
    assert calls == ["body"]


def test_an_agent_inside_a_run_is_a_run_of_its_own_and_gives_the_outer_one_back(url: str) -> None:
    with ac.run("outer"):
        research.run("inner", "q")
        fetch("a")
    assert [slot for slot, _ in slots("outer", url)] == ["fetch"]
    assert [slot for slot, _ in slots("inner", url)] == ["fetch"]

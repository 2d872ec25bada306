"""The pytest plugin, in sessions of its own: its fixtures, its matrix, and what it costs where nobody uses it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from openai import OpenAI, RateLimitError
from pages import ROOT

import agentcheckpoint as ac
from agentcheckpoint import testing
from agentcheckpoint.testing.provider import Provider

pytest_plugins = ["pytester"]

LOADED = (ac.agent, ac.get, testing.crash_matrix)
"""A session inside this process forgets what it imports first, and what was bound to it would be another's."""

QUIET = ("-p", "no:valkey", "-p", "no:cacheprovider", "-n0")

AGENT = """
    import agentcheckpoint as ac, pytest
    from agentcheckpoint import testing
    from openai import OpenAI

    @ac.agent
    def research(question: str) -> str:
        return answer(question)

    @ac.step
    def answer(question: str) -> str:
        return question.upper()
"""


def test_each_test_has_a_store_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        AGENT
        + """
    @pytest.mark.parametrize("n", [1, 2])
    def test_new(n, ac_store):
        with pytest.raises(ac.RunNotFound):
            ac.get("r-1")
        assert research.run("r-1", "q") == "Q"
        testing.assert_cost_below("r-1", "0.01")
    """
    )
    pytester.runpytest_inprocess(*QUIET).assert_outcomes(passed=2)


def test_the_store_can_be_any_server(pytester: pytest.Pytester) -> None:
    test = "def test_it(ac_store):\n    import os\n    assert os.environ['AGENTCHECKPOINT_URL'] == 'memory://given'\n"
    pytester.makepyfile(test)
    pytester.runpytest_inprocess(*QUIET, "--agentcheckpoint-url", "memory://given").assert_outcomes(passed=1)
    pytester.makeini("[pytest]\nagentcheckpoint_url = memory://given")
    pytester.runpytest_inprocess(*QUIET).assert_outcomes(passed=1)


def test_the_matrix_has_a_case_for_each_commit_and_says_which_failed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        AGENT
        + """
    @pytest.mark.crash_matrix(life=lambda bench: research.using(store=bench.store).run("r-1", "q"))
    def test_good(crash_case, ac_store):
        crash_case.check(ac_store)

    def pays_twice(bench):
        client = OpenAI(base_url=bench.provider.url, api_key="test")
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])
        return research.using(store=bench.store).run("r-1", "q")

    @pytest.mark.crash_matrix(life=pays_twice)
    def test_bad(crash_case):
        crash_case.check()
    """
    )
    result = pytester.runpytest_inprocess(*QUIET, "-v")
    result.assert_outcomes(passed=4, failed=4)
    result.stdout.fnmatch_lines(["*test_good?before-done-answer? PASSED*", "*test_bad?after-closed-run? FAILED*"])
    result.stdout.fnmatch_lines(["*payment 1 of * is in no ledger entry*"])


def test_a_matrix_test_without_its_argument_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.crash_matrix(life=print)\ndef test_it(): pass\n")
    result = pytester.runpytest_inprocess(*QUIET)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*takes the argument crash_case*"])


def test_the_example_is_an_example_that_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_my_agent=(ROOT / "examples" / "test_my_agent.py").read_text("utf-8"))
    pytester.runpytest_inprocess(*QUIET).assert_outcomes(passed=11)


def test_the_provider_keeps_to_its_script(ac_provider: Provider) -> None:
    ac_provider.script(
        testing.error(429, retry_after=0),
        testing.tool_call("search", {"q": "bees"}),
        testing.reply("they dance"),
        testing.error(429, retry_after=7),
    )
    client = OpenAI(max_retries=1)

    def ask(client: OpenAI) -> object:
        said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "q"}])
        return said.choices[0].message

    calls = ask(client).tool_calls  # type: ignore[attr-defined]
    assert (calls[0].function.name, calls[0].function.arguments) == ("search", '{"q": "bees"}')
    assert ask(client).content == "they dance"  # type: ignore[attr-defined]
    with pytest.raises(RateLimitError) as refused:
        ask(OpenAI(max_retries=0))
    assert refused.value.response.headers["retry-after"] == "7"
    assert len(ac_provider.journal) == 2, "errors are not paid"


def test_a_script_has_no_errors_of_a_status_that_is_none() -> None:
    with pytest.raises(ValueError, match="from 400 to 599"):
        testing.error(200)


def test_where_nobody_uses_it_the_plugin_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import sys\ndef test_it():\n"
        "    assert 'agentcheckpoint.testing.plugin' in sys.modules\n"
        "    assert not {'redis', 'openai', 'pydantic', 'fakeredis', 'tenacity'} & sys.modules.keys()\n"
    )
    only = ("-p", "no:asyncio", "-p", "no:hypothesispytest", "-p", "no:celery", "-p", "no:anyio", *QUIET)
    pytester.runpytest_subprocess(*only).assert_outcomes(passed=1)


def test_all_names_are_loaded_when_they_are_used() -> None:
    code = "import sys, agentcheckpoint.testing; assert not {'redis', 'openai', 'pydantic'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert {name for name in testing.__all__ if getattr(testing, name) is not None} == {*testing.__all__}
    assert {*testing.__all__} <= {*dir(testing)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module("agentcheckpoint.testing").nothing  # noqa: B018

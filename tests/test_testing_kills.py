"""The crash matrix by SIGKILL: the life before it is lived in a process of its own, on a real server."""

from __future__ import annotations

import itertools

import pytest
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.testing.killing import embedded_url, live_and_die
from agentcheckpoint.testing.matrix import Bench, Case, crash_matrix
from agentcheckpoint.testing.moments import Moment
from agentcheckpoint.testing.provider import Provider

count = itertools.count()


def fetch(url: str) -> str:
    return f"<{url}>"


def ask(client: OpenAI, text: str) -> str:
    said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    return said.choices[0].message.content or ""


def life(bench: Bench) -> str:
    client = ac.wrap(OpenAI(base_url=bench.provider.url, api_key="test"))
    with ac.run("r", store=bench.store, namespace=bench.namespace) as run:
        return ask(client, run.step("fetch", fetch, "u"))


def careless(bench: Bench) -> str:
    """Has a step whose inputs are never the same."""
    with ac.run("r", store=bench.store, namespace=bench.namespace, on_mismatch="rerun") as run:
        run.step("use", fetch, str(next(count)))
        return "done"


def spendthrift(bench: Bench) -> str:
    ask(OpenAI(base_url=bench.provider.url, api_key="test"), "q")
    return life(bench)


@pytest.mark.crash_matrix(life=life, how="kill")
def test_an_agent_survives_a_real_kill_at_each_side_of_each_commit(crash_case: Case) -> None:
    crash_case.check()


def of(life: object, name: str) -> Case:
    return next(case for case in crash_matrix(life, how="kill") if str(case) == name)  # type: ignore[arg-type]


def test_what_was_committed_before_the_kill_is_known_and_not_to_be_executed_again() -> None:
    with pytest.raises(AssertionError, match="step 'use' was committed, and was executed again"):
        of(careless, "after-done-use").check()


def test_what_the_killed_process_paid_is_judged_by_the_providers_journal() -> None:
    with pytest.raises(AssertionError, match="is in no ledger entry"):
        of(spendthrift, "after-done-fetch").check()


def test_a_child_that_does_not_die_there_is_an_error() -> None:
    with Provider() as provider, pytest.raises(AssertionError, match="did not come there again"):
        live_and_die(Bench(embedded_url(), "test-none", provider), life, Moment("after", "done", "other"), 1)


def test_what_another_process_cannot_have_is_refused() -> None:
    moment = Moment("after", "done", "fetch")
    with Provider() as provider:
        with pytest.raises(TypeError, match="the URL of a real server"):
            live_and_die(Bench("memory://x", "n", provider), life, moment, 1)
        with pytest.raises(TypeError, match="a function at a module's top"):
            live_and_die(Bench("redis://localhost", "n", provider), lambda bench: life(bench), moment, 1)

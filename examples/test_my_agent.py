"""Tests of an agent: pip install 'agentcheckpoint-redis[testing]', then pytest examples/test_my_agent.py"""

from __future__ import annotations

import pytest
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint import testing

PRICES = {"gpt-5-mini": ac.Price(input="0.25", output="2")}


@ac.agent
def digest(topic: str, base_url: str) -> str:
    """The agent under test: two questions to a model, the second about the first one's answer."""
    client = ac.wrap(OpenAI(base_url=base_url, api_key="test"), prices=PRICES)
    with ac.name("outline"):
        outline = client.responses.create(model="gpt-5-mini", input=f"Outline {topic}").output_text
    with ac.name("write"):
        return client.responses.create(model="gpt-5-mini", input=f"Write it up: {outline}").output_text


def life(bench: testing.Bench) -> str:
    agent = digest.using(store=bench.store, namespace=bench.namespace)
    return agent.run("d-1", "bees", bench.provider.url)


@pytest.mark.crash_matrix(life=life)
def test_it_survives_a_crash_at_any_commit(crash_case: testing.Case) -> None:
    crash_case.check()


def test_a_crash_after_the_outline_buys_it_once(ac_store: ac.Store, ac_provider: testing.Provider) -> None:
    ac_provider.script(testing.reply("1. dance"), testing.error(429, retry_after=0), testing.reply("Bees dance."))
    with testing.crash("outline"):
        digest.run("d-1", "bees", ac_provider.url)
    assert digest.run("d-1", "bees", ac_provider.url) == "Bees dance."
    assert len(ac_provider.journal) == 2
    testing.assert_paid_once("d-1", ac_provider)
    testing.assert_cost_below("d-1", "0.01")

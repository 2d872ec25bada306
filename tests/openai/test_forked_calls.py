"""What a fork, a rewind and a fresh start buy again, by the journal of the provider that was paid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memory_runs import fresh
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.core.pricing import Price
from agentcheckpoint.testing.provider import Provider

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.UnmetStepsWarning")
TURNS = ("plan", "search", "compare", "write")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


def talk(url: str, provider: Provider, run_id: str) -> list[str]:
    """Each turn carries the answers before it."""
    prices, said = {"demo-large": Price(input="2.5", output="10", cached="0.25")}, list[str]()
    with ac.wrap(OpenAI(base_url=provider.url, api_key="k"), prices=prices) as client, ac.run(run_id, store=url):
        for turn in TURNS:
            with ac.name(turn):
                said.append(client.responses.create(model="demo-large", input=" ".join([turn, *said])).output_text)
    return said


def paid(provider: Provider, since: int = 0) -> tuple[int, int]:
    """How many payments the provider has booked after the first so many, and their sum in nano-dollars."""
    booked = provider.journal[since:]
    return len(booked), sum(payment.cost for payment in booked)


def test_a_fork_buys_what_its_preview_says_and_no_more(provider: Provider) -> None:
    url = fresh()
    said = talk(url, provider, "r")
    told = ac.fork("r", after="search", as_="f", store=url)
    assert len(provider.journal) == 4, "a fork asks nobody"
    assert talk(url, provider, "f")[:2] == said[:2]
    count, cost = paid(provider, since=4)
    assert [step.slot for step in told.bought_again] == ["compare", "write"] and count == 2
    assert ac.get("f", store=url).cost.spent == cost
    assert ac.get("f", store=url).cost.saved == sum(payment.cost for payment in provider.journal[:2])
    assert talk(url, provider, "r") == said and len(provider.journal) == 6


def test_what_a_rewound_run_has_paid_for_twice_is_in_its_ledger_twice(provider: Provider) -> None:
    url = fresh()
    talk(url, provider, "r")
    told = ac.rewind("r", after="plan", store=url)
    talk(url, provider, "r")
    count, cost = paid(provider)
    assert count == 4 + len(told.bought_again) == 7
    assert ac.get("r", store=url).cost.spent == cost


def test_a_run_begun_afresh_forgets_no_cent(provider: Provider) -> None:
    url = fresh()
    talk(url, provider, "r")
    told = ac.preview("r", on_existing="fresh", store=url)
    with ac.run("r", store=url, on_existing="fresh"):
        pass
    talk(url, provider, "r")
    count, cost = paid(provider)
    assert (count, len(told.bought_again)) == (8, 4)
    assert ac.get("r", store=url).cost.spent == cost

"""``run.llm``: the intent comes first, tokens and price go with the result, and a failure leaves nothing invisible."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from memory_runs import fresh, logged, packets

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done, Failed, Intent, LedgerEntry
from agentcheckpoint.current import withdraw

PRICES = {"m-1": ac.Price(input="2", output="10", cached="0.5")}
OPENAI = {
    "model": "m-1",
    "choices": [],
    "usage": {
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "total_tokens": 1200,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 50},
    },
}
ANTHROPIC = {
    "type": "message",
    "model": "m-1",
    "usage": {
        "input_tokens": 600,
        "cache_read_input_tokens": 400,
        "cache_creation_input_tokens": 0,
        "output_tokens": 200,
    },
}


def ledger(url: str, run_id: str = "r") -> tuple[LedgerEntry, ...]:
    return ac.get(run_id, store=url).ledger


def answer(result: Any) -> Any:
    def ask(_question: str = "q") -> Any:
        return result

    return ask


@pytest.mark.parametrize("result", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def test_tokens_and_price_are_read_from_the_answer(result: dict[str, Any]) -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        assert run.llm(ac.Step("ask", prices=PRICES), answer(result)) == result
        assert run.cost.paid == 600 * 2_000 + 400 * 500 + 200 * 10_000
    (entry,) = ledger(url)
    assert (entry.bill, entry.slot, entry.served, entry.price) == ("paid", "ask", "m-1", "table (m-1)")
    assert entry.usage is not None
    assert (entry.usage.input_tokens, entry.usage.cached_tokens, entry.usage.output_tokens) == (1000, 400, 200)
    with ac.run("r", store=url) as run:
        assert run.llm(ac.Step("ask", prices=PRICES), answer(None)) == result
        assert (run.cost.saved, run.cost.attempts) == (3_400_000, 1)


def test_the_tier_is_the_answers_own_and_the_entry_says_whose_prices_applied() -> None:
    url = fresh()
    usage = ANTHROPIC["usage"] | {"service_tier": "batch", "server_tool_use": {"web_search_requests": 1}}
    result = ANTHROPIC | {"model": "claude-sonnet-4-5-20250929", "usage": usage}
    prices = {"tuned": ac.Price(input=1, output=1)}
    with ac.run("r", store=url) as run:
        run.llm(ac.Step("ask", provider="anthropic", model="sonnet", prices=prices), answer(result))
    (entry,) = ledger(url)
    assert (entry.provider, entry.tier, entry.model) == ("anthropic", "batch", "sonnet")
    assert entry.usage is not None and entry.usage.hosted_tools == {"web_search": 1}
    # 600 x 1.5 = 900, 400 x 0.15 = 60, 200 x 7.5 = 1500, one search 10000
    assert entry.cost == 12_460_000
    assert "(anthropic:claude-sonnet-4-5, batch)" in str(entry.price)


def test_an_answer_given_as_an_object_is_measured_too() -> None:
    url = fresh()
    usage = SimpleNamespace(input_tokens=10, output_tokens=5)
    result = SimpleNamespace(model="m-1", usage=usage)
    step = ac.Step(
        "ask", prices=PRICES, returns=Any, usage=lambda value: ac.Usage(input_tokens=value.usage.input_tokens)
    )
    with pytest.raises(ac.ResultNotStorable) as caught, ac.run("r", store=url) as run:
        run.llm(step, answer(result))
    assert caught.value.value is result
    (entry,) = ledger(url)
    assert (entry.bill, entry.usage) == ("wasted", ac.Usage(input_tokens=10))


def test_an_unknown_model_has_an_unknown_cost_which_is_not_zero() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.llm("ask", answer(OPENAI | {"model": "nobody-knows-it"}))
        assert (run.cost.paid, run.cost.unpriced) == (0, 1)
        assert str(run.cost) == "spent unknown · 1 unpriced"
    (entry,) = ledger(url)
    assert entry.cost is None
    assert entry.usage is not None


def test_an_answer_that_does_not_say_its_usage_is_unmeasured() -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        run.llm(ac.Step("ask", model="m-1", prices=PRICES), answer("just text"))
    (entry,) = ledger(url)
    assert (entry.bill, entry.model, entry.usage, entry.cost) == ("paid", "m-1", None, None)


def test_a_usage_extractor_of_the_users_own_counts_with_the_model_that_he_names() -> None:
    url = fresh()
    step = ac.Step("ask", model="m-1", prices=PRICES, usage=lambda text: ac.Usage(output_tokens=len(text)))
    with ac.run("r", store=url) as run:
        run.llm(step, answer("12345"))
        assert run.cost.paid == 50_000


def surrogate(_value: object) -> ac.Usage:
    raise ValueError("\ud800" + "x" * 10_000)


@pytest.mark.parametrize("usage", [surrogate, lambda value: {"input_tokens": 1}, lambda value: value["missing"]])
def test_an_extractor_that_fails_loses_nothing_that_was_paid(usage: Any) -> None:
    url = fresh()
    with ac.run("r", store=url) as run:
        assert run.llm(ac.Step("ask", usage=usage), answer({"a": 1})) == {"a": 1}
    (entry,) = ledger(url)
    assert (entry.bill, entry.usage, entry.cost) == ("paid", None, None)
    assert entry.price is not None and entry.price.startswith("unmeasured: usage=") and len(entry.price) < 300
    with ac.run("r", store=url) as run:
        assert run.llm("ask", answer(None)) == {"a": 1}


def test_the_intent_is_stored_before_the_call_is_made() -> None:
    url, seen = fresh(), []

    def ask() -> str:
        seen.extend(ledger(url))
        return "a"

    with ac.run("r", store=url) as run:
        run.llm("ask", ask)
    assert [(entry.bill, entry.slot) for entry in seen] == [("unresolved", "ask")]
    assert [entry.id for entry in ledger(url)] == [seen[0].id]
    assert [len(intent.entries) for intent in logged(url, "r", Intent)] == [1]


def test_a_plain_step_takes_one_round_trip_and_a_paid_one_two(monkeypatch: pytest.MonkeyPatch) -> None:
    with ac.run("r", store=fresh()) as run:
        run.step("first", str)
        with packets(monkeypatch) as sent:
            run.step("plain", str)
            assert len(sent) == 1
            run.llm("paid", str)
            assert len(sent) == 3


async def test_a_plain_step_takes_one_round_trip_and_a_paid_one_two_on_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ac.run("r", store=fresh()) as run:
        await run.step("first", str)
        with packets(monkeypatch) as sent:
            await run.step("plain", str)
            assert len(sent) == 1
            await run.llm("paid", str)
            assert len(sent) == 3


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_a_call_that_raises_may_have_been_billed(error: BaseException) -> None:
    url = fresh()

    def ask() -> str:
        raise error

    with pytest.raises(type(error)), ac.run("r", store=url) as run:
        run.llm("ask", ask)
    (entry,) = ledger(url)
    assert (entry.bill, entry.cost) == ("unresolved", None)
    with ac.run("r", store=url) as run:
        run.llm(ac.Step("ask", prices=PRICES), answer(OPENAI))
        assert run.cost.unresolved == 1
        assert run.cost.paid > 0
    assert len(logged(url, "r", Done)) == 1
    assert len(logged(url, "r", Failed)) == isinstance(error, Exception)


def test_a_refused_answer_is_wasted_and_the_next_one_is_bought() -> None:
    url = fresh()
    step = ac.Step("ask", prices=PRICES, accept=lambda value: value["model"] == "m-1" and "ok" in value)
    with ac.run("r", store=url) as run:
        with pytest.raises(ac.StepRejected) as caught:
            run.llm(step, answer(OPENAI))
        assert caught.value.value == OPENAI
        assert run.llm(step, answer(OPENAI | {"ok": True}))["ok"]
        assert (run.cost.wasted, run.cost.paid) == (3_400_000, 3_400_000)
    assert [entry.bill for entry in ledger(url)] == ["wasted", "paid"]
    with ac.run("r", store=url) as run:
        assert run.llm(step, answer(None))["ok"]


def test_an_intent_that_could_not_be_stored_is_a_call_that_was_not_made() -> None:
    url, asked = fresh(), []

    def ask() -> str:
        asked.append(1)
        return "a"

    with pytest.raises(ac.LeaseLost), ac.run("r", store=url) as run:
        withdraw(run._attempt)  # as if this process had died and another gone on
        with ac.run("r", store=url):
            pass
        run.llm("ask", ask)
    assert asked == []
    assert ledger(url) == ()


def test_what_a_worker_paid_after_it_was_taken_over_is_booked_as_wasted() -> None:
    url = fresh()

    def taken_over() -> Any:
        withdraw(run._attempt)
        with ac.run("r", store=url):
            pass
        return OPENAI

    with pytest.raises(ac.LeaseLost) as caught, ac.run("r", store=url) as run:
        run.llm(ac.Step("ask", prices=PRICES), taken_over)
    assert caught.value.value == OPENAI
    assert (caught.value.run_id, caught.value.step) == ("r", "ask")
    assert run.cost.wasted == 3_400_000
    assert [entry.bill for entry in ledger(url)] == ["wasted"]


async def test_paid_calls_in_parallel_have_one_entry_each() -> None:
    url = fresh()

    async def ask(n: int) -> dict[str, Any]:
        await asyncio.sleep(0)
        return OPENAI | {"n": n}

    for _ in range(2):
        async with ac.run("r", store=url) as run:
            step = ac.Step("ask", prices=PRICES)
            answers = await asyncio.gather(*(run.llm(step, ask, n) for n in range(20)))
            assert [found["n"] for found in answers] == list(range(20))
            assert run.cost.paid == 20 * 3_400_000
    assert len(ledger(url)) == 20

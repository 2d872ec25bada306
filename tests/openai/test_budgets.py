"""Model calls under a budget: reserved at their worst before they leave, settled by what they cost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import openai
import pytest
from asking import KEY, MODEL, PRICES, async_client, bills, chat, chat_async, recorded, sync_client
from memory_runs import logged
from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.core.models import Failed, Intent
from agentcheckpoint.testing.brain import Answer, Request, scripted
from agentcheckpoint.testing.provider import Provider

BOTH = {**PRICES, "demo-small": ac.Price(input="0.15", output="0.6")}
ANY: dict[str, Any] = {"max_tokens": 100}


def dollars(nano: int) -> Decimal:
    return Decimal(nano) / 10**9


def worst(provider: Provider, url: str) -> int:
    """The bound of ``chat(client, **ANY)``, of which the same questions of other letters have the same."""
    with sync_client(provider) as client, ac.run("worst", store=url):
        chat(client, **ANY)
    (entry,) = ac.get("worst", store=url).ledger
    assert entry.bound is not None and entry.cost is not None and entry.cost < entry.bound
    return entry.bound


# -- at the ceiling ---------------------------------------------------------------------------------------------------


def test_a_call_without_room_is_not_made_and_goes_on_once_the_limit_is_raised(url: str, provider: Provider) -> None:
    one = worst(provider, url)
    already = len(provider.requests)
    with (
        pytest.raises(ac.BudgetExceeded, match="Raise the limit") as caught,
        sync_client(provider) as client,
        ac.run("r", store=url, budget=ac.Budget(dollars(one))) as run,
    ):
        first = chat(client, "hi", **ANY).id
        spent = run.cost.spent
        chat(client, "ho", **ANY)
    error = caught.value
    assert (error.run_id, error.step, error.budget, error.kind) == ("r", "chat#2", None, "usd")
    assert (error.limit, error.spent, error.asked) == (one, spent, one)
    assert len(provider.requests) == already + 1 and bills(url) == ["paid"]
    assert len(logged(url, "r", Intent)) == 1 and ac.get("r", store=url).state == "retryable"
    with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(dollars(2 * one))) as run:
        assert chat(client, "hi", **ANY).id == first
        chat(client, "ho", **ANY)
        assert str(run.cost).startswith(f"spent ${dollars(run.cost.spent):.5f}"[:9])
    assert recorded(url) == ["chat", "chat#2"] and len(provider.requests) == already + 2


def test_it_is_refused_again_on_resume_as_long_as_the_limit_stands(url: str, provider: Provider) -> None:
    one = worst(provider, url)
    for _ in range(3):
        with (
            pytest.raises(ac.BudgetExceeded),
            sync_client(provider) as client,
            ac.run("r", store=url, budget=ac.Budget(dollars(one))),
        ):
            chat(client, "hi", **ANY)
            chat(client, "ho", **ANY)
    assert bills(url) == ["paid"]


@pytest.mark.parametrize("limits", [{"tokens": 560}, {"calls": 1}], ids=["tokens", "calls"])
def test_tokens_and_calls_have_ceilings_too(url: str, provider: Provider, limits: dict[str, int]) -> None:
    with (
        pytest.raises(ac.BudgetExceeded) as caught,
        sync_client(provider) as client,
        ac.run("r", store=url, budget=ac.Budget(**limits)),
    ):
        for n in range(9):
            chat(client, str(n), **ANY)
    assert caught.value.kind == next(iter(limits)) and 1 <= len(provider.journal) <= 8


def test_every_budget_of_a_run_must_have_room(url: str, provider: Provider) -> None:
    with (
        pytest.raises(ac.BudgetExceeded, match="2 \\(calls\\)"),
        sync_client(provider) as client,
        ac.run("r", store=url, budget=[ac.Budget(9), ac.Budget(calls=2)]),
    ):
        for n in range(9):
            chat(client, str(n), **ANY)
    assert len(provider.journal) == 2


def test_an_agents_runs_have_its_budget_and_it_can_be_raised(url: str, provider: Provider) -> None:
    client = sync_client(provider)

    @ac.agent(budget=ac.Budget(calls=1))
    def twice() -> list[str]:
        return [chat(client, text, **ANY).id for text in ("hi", "ho")]

    with pytest.raises(ac.BudgetExceeded):
        twice.using(store=url).run("r")
    assert len(twice.using(store=url, budget=ac.Budget(calls=2)).run("r")) == 2
    assert len(provider.journal) == 2


# -- parallel calls ---------------------------------------------------------------------------------------------------

ROOM_FOR = 3


def waits(together: threading.Barrier, refused: threading.Event | None = None) -> Any:
    """A model that answers when all that may be asked at once have asked, and all others are refused.

    What is answered costs less than was kept for it: one that came later would find room, and be right.
    """

    def brain(request: Request, /) -> Answer:
        if request.messages[-1]["content"] != "hi":
            together.wait(60)
            assert refused is None or refused.wait(60)
        return Answer(text="ok")

    return brain


def test_parallel_calls_in_threads_cannot_overspend_together(url: str) -> None:
    all_refused = threading.Event()
    with Provider(waits(threading.Barrier(ROOM_FOR), all_refused)) as provider, sync_client(provider) as client:
        one = worst(provider, url)
        refused: list[ac.BudgetExceeded] = []

        def ask(n: int) -> None:
            try:
                chat(client, f"{n:02}", **ANY)
            except ac.BudgetExceeded as error:
                refused.append(error)
                if len(refused) == 8 - ROOM_FOR:
                    all_refused.set()

        with ac.run("r", store=url, budget=ac.Budget(dollars(ROOM_FOR * one))) as run, ThreadPoolExecutor(8) as pool:
            list(pool.map(run.bind(ask), range(8)))
    assert len(refused) == 8 - ROOM_FOR and len(provider.journal) == ROOM_FOR + 1
    assert {error.reserved + error.spent + error.asked > error.limit for error in refused} == {True}


async def test_parallel_calls_on_a_loop_cannot_overspend_together(url: str) -> None:
    all_refused, refused = threading.Event(), list[ac.BudgetExceeded]()
    with Provider(waits(threading.Barrier(ROOM_FOR), all_refused)) as provider:
        one = await asyncio.to_thread(worst, provider, url)
        async with async_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(dollars(ROOM_FOR * one))):

            async def ask(n: int) -> Any:
                try:
                    return await chat_async(client, f"{n:02}", **ANY)
                except ac.BudgetExceeded as error:
                    refused.append(error)
                    if len(refused) == 8 - ROOM_FOR:
                        all_refused.set()
                    return error

            ends = await asyncio.gather(*map(ask, range(8)))
    assert sum(isinstance(end, ac.BudgetExceeded) for end in ends) == 8 - ROOM_FOR
    assert len(provider.journal) == ROOM_FOR + 1


def test_parallel_calls_overspend_if_nothing_is_kept_for_those_under_way(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the ledger is asked, and the calls that it does not know yet are left out."""
    from agentcheckpoint.core import budget

    counted = budget.counted
    blind = lambda entry: budget.Sums() if entry.bill == "unresolved" else counted(entry)  # noqa: E731
    with Provider(waits(threading.Barrier(8))) as provider, sync_client(provider) as client:
        one = worst(provider, url)
        monkeypatch.setattr(budget, "counted", blind)
        with ac.run("r", store=url, budget=ac.Budget(dollars(ROOM_FOR * one))) as run, ThreadPoolExecutor(8) as pool:
            list(pool.map(run.bind(lambda n: chat(client, f"{n:02}", **ANY)), range(8)))
    assert len(provider.journal) == 8 + 1


# -- what is unknown counts for its bound -----------------------------------------------------------------------------


def test_money_of_which_nobody_knows_counts_at_its_bound_and_survives_a_resume(url: str) -> None:
    with Provider(scripted("known", Answer(text="x", drop="after"), "more")) as provider:
        one = worst(provider, url)
        with (
            pytest.raises(openai.APIConnectionError),
            sync_client(provider, max_retries=0) as client,
            ac.run("r", store=url, budget=ac.Budget(dollars(one))) as run,
        ):
            chat(client, "hi", **ANY)
        assert run.cost.unresolved_bound == one and str(run.cost).endswith("unresolved")
        with (
            pytest.raises(ac.BudgetExceeded, match="unresolved") as caught,
            sync_client(provider) as client,
            ac.run("r", store=url, budget=ac.Budget(dollars(2 * one - 1))),
        ):
            chat(client, "hi", **ANY)
        assert (caught.value.spent, caught.value.reserved) == (one, 0)
        with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(dollars(2 * one))):
            chat(client, "hi", **ANY)
    assert bills(url) == ["unresolved", "paid"]


@pytest.fixture
def unmeasured() -> Iterator[Provider]:
    """One whose chat streams do not say what they took."""
    with Provider(refuses=["stream_options"]) as provider:
        yield provider


def test_a_stream_whose_tokens_are_not_measured_counts_at_its_bound(url: str, unmeasured: Provider) -> None:
    provider = unmeasured
    with sync_client(provider) as client, ac.run("r", store=url):
        list(chat(client, "hi", stream=True, **ANY))
    refused, entry = ac.get("r", store=url).ledger
    assert (refused.bill, entry.bill, entry.cost) == ("not_billed", "paid", None) and entry.bound
    with (
        pytest.raises(ac.BudgetExceeded) as caught,
        sync_client(provider) as client,
        ac.run("r", store=url, budget=ac.Budget(dollars(entry.bound))),
    ):
        list(chat(client, "hi", stream=True, **ANY))
        chat(client, "ho", **ANY)
    assert caught.value.spent == entry.bound


def test_what_an_earlier_attempt_paid_without_a_budget_and_without_a_bound_is_said(
    url: str, unmeasured: Provider
) -> None:
    provider = unmeasured
    with sync_client(provider) as client, ac.run("r", store=url):
        list(chat(client, "hi", stream=True))
    assert ac.get("r", store=url).ledger[0].bound is None
    with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(1)):
        list(chat(client, "hi", stream=True))
        with pytest.warns(ac.AgentCheckpointWarning, match="1 earlier attempt"):
            chat(client, "ho", **ANY)
        chat(client, "hm", **ANY)
    with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(calls=9)):
        list(chat(client, "hi", stream=True))
        chat(client, "ho", **ANY)
        chat(client, "hm", **ANY)
        chat(client, "oh", **ANY)


def test_a_stream_that_is_open_keeps_its_room(url: str, provider: Provider) -> None:
    one = worst(provider, url) * 3 // 2
    with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(dollars(one))):
        stream = chat(client, "a few words", stream=True, stream_options={"include_usage": True}, **ANY)
        next(iter(stream))
        with pytest.raises(ac.BudgetExceeded) as caught:
            chat(client, "hi", **ANY)
        assert caught.value.reserved and not caught.value.spent
        list(stream)
        chat(client, "ho", **{**ANY, "max_tokens": 1})


def test_wasted_money_counts(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(1)) as run:
        ac.reject(chat(client, "hi", **ANY), "no good")
        wasted = run.cost.wasted
    assert wasted
    with (
        pytest.raises(ac.BudgetExceeded, match="wasted") as caught,
        sync_client(provider) as client,
        ac.run("r", store=url, budget=ac.Budget(dollars(wasted))),
    ):
        chat(client, "ho", **ANY)
    assert caught.value.spent == wasted


# -- the SDK's own retries --------------------------------------------------------------------------------------------

LIMITED = Answer(status=429, error="slow down", retry_after="0")
BROKEN = Answer(status=500, error="sorry", retry_after="0")


def test_an_attempt_that_was_not_billed_gives_its_room_to_the_next(url: str) -> None:
    with Provider(scripted("known", LIMITED, LIMITED, "ok")) as provider:
        one = worst(provider, url)
        with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(dollars(one), calls=1)):
            chat(client, "hi", **ANY)
    assert bills(url) == ["not_billed", "not_billed", "paid"]


def test_an_attempt_that_may_have_been_billed_does_not_and_what_became_of_it_is_stored(url: str) -> None:
    with Provider(scripted("known", LIMITED, BROKEN, "never sent")) as provider:
        one = worst(provider, url)
        with (
            pytest.raises(ac.BudgetExceeded) as caught,
            sync_client(provider) as client,
            ac.run("r", store=url, budget=ac.Budget(dollars(one))),
        ):
            chat(client, "hi", **ANY)
    assert (caught.value.limit, caught.value.asked) == (one, one)
    assert bills(url) == ["not_billed", "unresolved"] and len(provider.requests) == 3
    (failed,) = logged(url, "r", Failed)
    assert failed.error.type == "BudgetExceeded" and failed.entries[0].price == "HTTP 500"


# -- calls without a bound --------------------------------------------------------------------------------------------


def refused(url: str, provider: Provider, budget: ac.Budget, ask: Any, client: OpenAI | None = None) -> str:
    with (
        pytest.raises(ac.RunMisuse) as caught,
        client or sync_client(provider) as wrapped,
        ac.run("r", store=url, budget=budget),
    ):
        ask(wrapped)
    assert not provider.requests and not logged(url, "r", Intent)
    return str(caught.value)


def test_a_call_without_a_limit_of_output_is_refused_and_told_what_to_add(url: str, provider: Provider) -> None:
    assert "max_completion_tokens=" in refused(url, provider, ac.Budget(1), chat)
    ask = lambda client: client.responses.create(model=MODEL, input="x")  # noqa: E731
    assert "max_output_tokens=" in refused(url, provider, ac.Budget(tokens=9000), ask)
    with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(1, assume_output=500)):
        chat(client)
    assert (ac.get("r", store=url).ledger[0].bound_tokens or 0) > 500


def test_a_call_without_a_price_is_refused_before_it_is_paid(url: str, provider: Provider) -> None:
    unpriced = lambda: ac.wrap(OpenAI(base_url=provider.url, api_key=KEY))  # noqa: E731
    ask = lambda client: chat(client, **ANY)  # noqa: E731
    assert "prices=" in refused(url, provider, ac.Budget(1), ask, unpriced())
    with unpriced() as client, ac.run("r", store=url, budget=ac.Budget(tokens=5000, calls=3)):
        chat(client, **ANY)


def test_a_call_whose_tokens_cannot_be_told_takes_a_count_or_a_bound_of_the_users(url: str, provider: Provider) -> None:
    def continued(client: OpenAI) -> Any:
        return client.responses.create(model=MODEL, input="x", previous_response_id="r1", max_output_tokens=9)

    assert "previous_response_id" in refused(url, provider, ac.Budget(1), continued)
    asked: list[Any] = []

    def count(endpoint: str, body: Any) -> int:
        asked.append((endpoint, body["input"]))
        return 1000

    for budget, options in ((ac.Budget(1, count_tokens=count), {}), (ac.Budget(1), {"max_cost": "0.5"})):
        with (
            pytest.raises(openai.BadRequestError),
            sync_client(provider) as client,
            ac.run("r", store=url, budget=budget),
            ac.name("ask", **options),
        ):
            continued(client)
    assert asked == [("responses", "x")]
    counted, bounded = ac.get("r", store=url).ledger
    assert (counted.bound_tokens, counted.bound, bounded.bound) == (1009, 1000 * 2500 + 9 * 10_000, 500_000_000)


@pytest.mark.parametrize("count", [lambda *_: 1.5, lambda *_: True, lambda *_: -1])
def test_a_count_that_is_none_is_refused(url: str, provider: Provider, count: Any) -> None:
    with (
        pytest.raises(TypeError, match="count_tokens="),
        sync_client(provider) as client,
        ac.run("r", store=url, budget=ac.Budget(1, count_tokens=count)),
    ):
        chat(client, **ANY)
    assert not provider.requests


def test_calls_alone_need_no_bound(url: str, provider: Provider) -> None:
    with sync_client(provider) as client, ac.run("r", store=url, budget=ac.Budget(calls=1)):
        chat(client)


# -- on_exceeded ------------------------------------------------------------------------------------------------------


def cheaper(exceeded: ac.Exceeded) -> dict[str, Any]:
    assert exceeded.body is not None and exceeded.body["model"] == MODEL
    assert exceeded.left < exceeded.asked and exceeded.run_id == "r"
    return {"model": "demo-small"}


def both(provider: Provider) -> OpenAI:
    return ac.wrap(OpenAI(base_url=provider.url, api_key=KEY), prices=BOTH)


def test_a_hook_may_change_the_model_and_a_replay_finds_the_call_as_it_was_written(
    url: str, provider: Provider
) -> None:
    one = worst(provider, url)
    budget = ac.Budget(dollars(one // 2), on_exceeded=cheaper)
    with both(provider) as client, ac.run("r", store=url, budget=budget):
        answer = chat(client, **ANY)
    (entry,) = ac.get("r", store=url).ledger
    assert answer.model == entry.model == entry.served == "demo-small" == provider.journal[-1].model
    assert entry.cost == provider.journal[-1].cost and (entry.bound or 0) <= one // 2
    assert provider.requests[-1].headers["x-client-request-id"] == entry.id
    paid = len(provider.journal)
    with both(provider) as client, ac.run("r", store=url):
        assert chat(client, **ANY).id == answer.id
    assert len(provider.journal) == paid


async def test_a_hook_may_be_async_in_an_async_run(url: str, provider: Provider) -> None:
    async def later(exceeded: ac.Exceeded) -> dict[str, Any]:
        await asyncio.sleep(0)
        return cheaper(exceeded)

    async with (
        async_client(provider) as bare,
        ac.wrap(bare, prices=BOTH) as client,
        ac.run("r", store=url, budget=ac.Budget("0.0015", on_exceeded=later)),
    ):
        assert (await chat_async(client, **ANY)).model == "demo-small"


def test_what_a_hook_changes_must_fit_too_and_it_is_asked_once(url: str, provider: Provider) -> None:
    asked: list[int] = []

    def hook(exceeded: ac.Exceeded) -> dict[str, Any]:
        asked.append(exceeded.asked)
        return {"model": "demo-small"}

    with (
        pytest.raises(ac.BudgetExceeded) as caught,
        both(provider) as client,
        ac.run("r", store=url, budget=ac.Budget(0, on_exceeded=hook)),
    ):
        chat(client, **ANY)
    assert len(asked) == 1 and 0 < caught.value.asked < asked[0] and not provider.requests


@pytest.mark.parametrize("said", ["demo-small", {"model": "demo-small", "stream": True}], ids=["a name", "stream"])
def test_a_hook_that_returns_something_else_is_told_what_it_may_return(url: str, provider: Provider, said: Any) -> None:
    with (
        pytest.raises(ac.RunMisuse, match="on_exceeded="),
        both(provider) as client,
        ac.run("r", store=url, budget=ac.Budget(0, on_exceeded=lambda _: said)),
    ):
        chat(client, **ANY)
    assert not provider.requests


def test_a_hook_that_returns_none_lets_it_be_raised(url: str, provider: Provider) -> None:
    with (
        pytest.raises(ac.BudgetExceeded),
        both(provider) as client,
        ac.run("r", store=url, budget=ac.Budget(0, on_exceeded=lambda _: None)),
    ):
        chat(client, **ANY)


@pytest.mark.parametrize(
    ("error", "state"), [(ac.Suspended(), "waiting"), (ValueError("mine"), "retryable")], ids=["wait", "raise"]
)
def test_what_a_hook_raises_crosses_the_sdk(url: str, provider: Provider, error: BaseException, state: str) -> None:
    def hook(_: ac.Exceeded) -> None:
        raise error

    with (
        pytest.raises(type(error)) as caught,
        sync_client(provider, max_retries=5) as client,
        ac.run("r", store=url, budget=ac.Budget(0, on_exceeded=hook)),
    ):
        chat(client, **ANY)
    assert caught.value is error and ac.get("r", store=url).state == state
    assert not provider.requests and not logged(url, "r", Intent)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_error_itself_crosses_the_sdk_and_is_never_retried(url: str, provider: Provider, colour: str) -> None:
    async def on_a_loop() -> None:
        async with async_client(provider, max_retries=5) as client, ac.run("r", store=url, budget=ac.Budget(0)):
            await chat_async(client, **ANY)

    with pytest.raises(ac.BudgetExceeded):
        if colour == "async":
            asyncio.run(on_a_loop())
        with sync_client(provider, max_retries=5) as client, ac.run("r", store=url, budget=ac.Budget(0)):
            chat(client, **ANY)
    assert not provider.requests and not logged(url, "r", Failed)

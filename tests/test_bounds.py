"""The bound of a request: what the provider measures is never more, whatever is asked; and what has none says so."""

from __future__ import annotations

import json
import random
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import agentcheckpoint as ac
from agentcheckpoint.core import bound as rules
from agentcheckpoint.core.bound import Bound, request_bound, worst_cost
from agentcheckpoint.testing import payments
from agentcheckpoint.testing.brain import Answer, Request, ToolCall
from agentcheckpoint.testing.desk import Desk
from agentcheckpoint.testing.payments import Journal, Price
from agentcheckpoint.testing.wire import output_tokens

MODEL = "m"
NOW = 1_795_478_400_000
"""In November 2026."""
PRICES = {MODEL: Price(input=2_500, cached=250, output=10_000)}
AS_USER = {MODEL: ac.Price(input="2.5", output="10", cached="0.25")}
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "embeddings": "/v1/embeddings"}


def bound(endpoint: str, body: dict[str, Any], **options: Any) -> Bound:
    size = len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace"))
    return request_bound(endpoint, body, size, **options)


def cost(of: Bound, tier: object = None, table: Any = AS_USER, model: str = MODEL, provider: str | None = None) -> Any:
    return worst_cost(of, model=model, provider=provider, tier=tier, at_ms=NOW, table=table)


# -- what the provider measures lies below it -------------------------------------------------------------------------

TEXT = st.text(max_size=60)
NAMES = st.text("abcdefgh_", min_size=1, max_size=12)
PARTS = st.one_of(
    TEXT, st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), min_size=1, max_size=3)
)
FUNCTION = st.fixed_dictionaries({"name": NAMES, "arguments": TEXT})
CHAT_MESSAGE = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": PARTS}),
    st.fixed_dictionaries(
        {
            "role": st.just("assistant"),
            "tool_calls": st.lists(
                st.fixed_dictionaries({"id": NAMES, "type": st.just("function"), "function": FUNCTION}), max_size=3
            ),
        }
    ),
    st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": NAMES, "content": TEXT}),
)
ITEM = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "developer"]), "content": TEXT}),
    st.fixed_dictionaries({"type": st.just("function_call"), "call_id": NAMES, "name": NAMES, "arguments": TEXT}),
    st.fixed_dictionaries({"type": st.just("function_call_output"), "call_id": NAMES, "output": TEXT}),
)
SCHEMA = st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(NAMES, st.just({}))})
TOOL = st.fixed_dictionaries({"type": st.just("function"), "name": NAMES, "description": TEXT, "parameters": SCHEMA})
LIMIT = st.integers(1, 200)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    endpoint = draw(st.sampled_from(["chat", "responses", "embeddings"]))
    body: dict[str, Any] = {"model": MODEL}
    if endpoint == "embeddings":
        body["input"] = draw(st.one_of(st.text(min_size=1), st.lists(TEXT, min_size=1), st.lists(LIMIT, min_size=1)))
        return endpoint, body
    tools = draw(st.lists(TOOL, max_size=3))
    if endpoint == "chat":
        body["messages"] = draw(st.lists(CHAT_MESSAGE, min_size=1, max_size=20))
        body[draw(st.sampled_from(["max_tokens", "max_completion_tokens"]))] = draw(LIMIT)
        tools = [{"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}} for tool in tools]
    else:
        body["input"] = draw(st.one_of(st.text(min_size=1), st.lists(ITEM, min_size=1, max_size=20)))
        body["max_output_tokens"] = draw(LIMIT)
        if draw(st.booleans()):
            body["instructions"] = draw(TEXT)
    return endpoint, {**body, "tools": tools} if tools else body


def up_to_the_limit(request: Request, /) -> Answer:
    """A model that uses its limit of output to the last token: words, tool calls, reasoning."""
    chance = random.Random(len(json.dumps(request.body)))
    limit = next((request.body[name] for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")
                  if name in request.body), 0)  # fmt: skip
    calls = tuple(ToolCall(tool["name"], {"a": "b"}) for tool in request.tools if chance.random() < 0.3)
    answer = Answer(text="é" * chance.randint(0, 40), tool_calls=calls, finish_reason="length")
    if output_tokens(answer) > limit:
        answer = Answer(text="")
    return Answer(
        text=answer.text,
        tool_calls=answer.tool_calls,
        finish_reason="length",
        reasoning_tokens=max(0, limit - output_tokens(answer)),
    )


def measured(endpoint: str, body: dict[str, Any]) -> tuple[int, int]:
    """Tokens and nano-dollars that the loopback provider bills for it."""
    desk = Desk(up_to_the_limit, journal := Journal(None), PRICES, 1024)
    reply = desk.post(PATHS[endpoint], {}, json.dumps(body).encode())
    assert reply.answer.status == 200, reply.body
    (payment,) = journal.payments
    return payment.usage["total_tokens"], payment.cost


def check_bound(request: tuple[str, dict[str, Any]], bytes_per_token: int) -> None:
    endpoint, body = request
    most = bound(endpoint, body)
    with mock.patch.object(payments, "_BYTES_PER_TOKEN", bytes_per_token):
        tokens, paid = measured(endpoint, body)
    assert most.tokens is not None and tokens <= most.tokens
    assert paid <= cost(most).nano


QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("bytes_per_token", [4, 1], ids=["usual tokens", "each byte a token"])
@QUIET
@given(requests())
def test_what_is_billed_is_never_more_than_the_bound(bytes_per_token: int, asked: tuple[str, dict[str, Any]]) -> None:
    check_bound(asked, bytes_per_token)


@pytest.mark.parametrize("broken", ["output", "bytes"])
def test_a_bound_that_leaves_something_out_is_caught(broken: str) -> None:
    """The negative controls: without the limit of output, and without the bytes of the request."""
    halved = request_bound

    def without(endpoint: str, body: Any, size: int, **options: Any) -> Bound:
        whole = halved(endpoint, body, 0 if broken == "bytes" else size, **options)
        return Bound(whole.input, 0) if broken == "output" else whole

    @settings(QUIET, database=None, max_examples=500, phases=[Phase.generate], report_multiple_bugs=False)
    @given(requests())
    def hold(request: tuple[str, dict[str, Any]]) -> None:
        check_bound(request, 1)

    with mock.patch(f"{__name__}.request_bound", without), pytest.raises(AssertionError):
        hold()


# -- output -----------------------------------------------------------------------------------------------------------

HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("endpoint", "body", "output"),
    [
        ("chat", {"messages": HI, "max_tokens": 7}, 7),
        ("chat", {"messages": HI, "max_completion_tokens": 7, "max_tokens": 9}, 9),
        ("chat", {"messages": HI, "max_completion_tokens": 7, "n": 3}, 21),
        ("responses", {"input": "hi", "max_output_tokens": 7}, 7),
        ("embeddings", {"input": "hi"}, 0),
    ],
)
def test_output_is_bounded_by_its_limit_times_the_answers(endpoint: str, body: dict[str, Any], output: int) -> None:
    assert bound(endpoint, body).output == output


def test_a_prediction_may_be_billed_as_output_on_top() -> None:
    predicted = {"type": "content", "content": "x" * 100}
    plain = bound("chat", {"messages": HI, "max_tokens": 7})
    with_it = bound("chat", {"messages": HI, "max_tokens": 7, "prediction": predicted})
    assert plain.output == 7 and (with_it.output or 0) >= 107


@pytest.mark.parametrize(("endpoint", "name"), [("chat", "max_completion_tokens"), ("responses", "max_output_tokens")])
def test_without_a_limit_there_is_no_bound_and_it_says_what_to_add(endpoint: str, name: str) -> None:
    body = {"messages": HI, "input": "hi", name: None}
    most = bound(endpoint, body)
    assert most.tokens is None and f"{name}=" in most.why and "assume_output=" in most.why
    assert bound(endpoint, body, assume_output=50).output == 50


# -- what has no bound by bytes ---------------------------------------------------------------------------------------

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
UNSEEN: list[tuple[str, dict[str, Any], str]] = [
    ("chat", {"messages": [{"role": "user", "content": [IMAGE]}]}, "image_url"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "file"),
    ("chat", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "audio"),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input_image"),
    ("responses", {"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
    ("responses", {"input": [{"type": "function_call_output", "output": [{"type": "input_file"}]}]}, "input_file"),
    ("responses", {"input": "hi", "previous_response_id": "resp_1"}, "previous_response_id"),
    ("responses", {"input": "hi", "conversation": "conv_1"}, "conversation"),
    ("responses", {"input": "hi", "prompt": {"id": "pmpt_1"}}, "prompt"),
]
APART: list[tuple[str, dict[str, Any], str]] = [
    ("responses", {"input": "hi", "tools": [{"type": "web_search"}]}, "web_search"),
    ("responses", {"input": "hi", "tools": [{"type": "function"}, {"type": "code_interpreter"}]}, "code_interpreter"),
    ("chat", {"messages": HI, "web_search_options": {}}, "web_search_options"),
    ("chat", {"messages": HI, "modalities": ["text", "audio"]}, "modalities"),
]


@pytest.mark.parametrize(("endpoint", "body", "named"), UNSEEN)
def test_input_that_is_not_in_the_request_has_no_bound_unless_it_is_counted(
    endpoint: str, body: dict[str, Any], named: str
) -> None:
    limited = {**body, "max_tokens": 5, "max_output_tokens": 5}
    most = bound(endpoint, limited)
    assert most.tokens is None and named in most.why and "count_tokens=" in most.why and "max_cost=" in most.why
    assert bound(endpoint, limited, counted=1000).tokens == 1005


@pytest.mark.parametrize(("endpoint", "body", "named"), APART)
def test_what_is_billed_beside_the_tokens_has_no_bound_even_if_they_are_counted(
    endpoint: str, body: dict[str, Any], named: str
) -> None:
    most = bound(endpoint, {**body, "max_tokens": 5, "max_output_tokens": 5}, counted=1000)
    assert most.tokens is None and named in most.why and "max_cost=" in most.why


def test_words_about_images_are_words() -> None:
    talk = {"role": "user", "content": json.dumps(IMAGE)}
    assert bound("chat", {"messages": [talk], "max_tokens": 5, "modalities": ["text"]}).tokens is not None


# -- the price --------------------------------------------------------------------------------------------------------


def test_the_dearest_kind_of_input_counts() -> None:
    most = Bound(1_000_000, 0)
    assert cost(most, table={MODEL: ac.Price(input=2, output=0, cached=1)}).nano == 2 * 10**9
    assert cost(most, table={MODEL: ac.Price(input=2, output=0, cached=1, cache_write=3)}).nano == 3 * 10**9
    assert cost(most, table={MODEL: ac.Price(input=2, output=0, cached=5)}).nano == 5 * 10**9


def test_a_tier_that_is_asked_for_may_also_be_served_as_the_standard_one() -> None:
    of = {tier: worst(tier) for tier in (None, "flex", "priority", "default")}
    assert of["flex"] == of["default"] == of[None] < of["priority"]


def worst(tier: str | None) -> int:
    nano = cost(Bound(10_000, 1_000), tier, {}, "gpt-5", "openai").nano
    assert isinstance(nano, int)
    return nano


def test_an_unknown_price_is_no_bound() -> None:
    unknown = cost(Bound(1, 1), model="nobodys-model", provider="openai", table={})
    assert unknown.nano is None and "nobodys-model" in unknown.source
    assert cost(Bound(1, None, "why")).nano is None
    assert rules.worst_cost(Bound(0, 0), model=MODEL, provider=None, tier=None, at_ms=0, table=AS_USER).nano == 0

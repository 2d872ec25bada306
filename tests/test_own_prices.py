"""A user's own prices: kinds of tokens, calls of hosted tools, tiers, long inputs, and no drift in any sum."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentcheckpoint.core.models import MOST, Usage
from agentcheckpoint.core.pricing import Cost, Price, price_usage

NOW = 1_795_000_000_000
TABLE = {
    "m": Price(
        input="2",
        output="8",
        cached="0.5",
        cache_write="2.5",
        cache_write_long="4",
        input_audio="32",
        output_audio="64",
        input_image="5",
        output_image="40",
        per_call={"web_search": "0.01", "code_interpreter": "0.03"},
        tiers={"flex": Price(input="1", output="4"), "batch": Price(input="1", output="4", per_call={"web_search": 0})},
        above={200_000: Price(input="4", output="12"), 500_000: Price(input="6", output="16")},
    )
}


def cost(usage: Usage, tier: str | None = None) -> Cost:
    return price_usage(usage, model="m", provider=None, tier=tier, at_ms=NOW, table=TABLE)


def test_every_kind_of_tokens_has_its_price_and_is_priced_once() -> None:
    usage = Usage(
        input_tokens=1_000,
        output_tokens=500,
        cached_tokens=200,
        cache_write_tokens=100,
        cache_write_long_tokens=40,
        reasoning_tokens=77,
        input_audio_tokens=300,
        output_audio_tokens=60,
        cached_audio_tokens=50,
        input_image_tokens=90,
        output_image_tokens=10,
        cached_image_tokens=20,
    )
    # cached 200 x 0.5 = 100; written 60 x 2.5 = 150 and 40 x 4 = 160; audio 250 x 32 = 8000; images 70 x 5 = 350;
    # the rest 1000 - 200 - 100 - 250 - 70 = 380 x 2 = 760; out: 60 x 64 = 3840, 10 x 40 = 400, 430 x 8 = 3440
    assert cost(usage) == Cost(17_200_000, "table (m)")


def test_a_kind_without_a_price_of_its_own_costs_what_it_lies_in() -> None:
    usage = Usage(
        input_tokens=1_000,
        output_tokens=500,
        cached_tokens=200,
        cached_audio_tokens=200,
        cache_write_tokens=100,
        cache_write_long_tokens=100,
        input_audio_tokens=300,
        output_audio_tokens=60,
    )
    plain = {"m": Price(input="2", output="8")}
    # 1000 x 2 = 2000, 500 x 8 = 4000
    assert price_usage(usage, model="m", provider=None, at_ms=NOW, table=plain).nano == 6_000_000
    written = {"m": Price(input="2", output="8", cache_write="3", input_audio="10")}
    # long-lived writes cost what writes cost: 100 x 3 = 300; without a price of cached tokens all audio is audio:
    # 300 x 10 = 3000; 600 x 2 = 1200; 4000
    assert price_usage(usage, model="m", provider=None, at_ms=NOW, table=written).nano == 8_500_000


def test_calls_of_hosted_tools_are_priced_by_the_call() -> None:
    used = Usage(input_tokens=1_000, hosted_tools={"web_search": 3, "code_interpreter": 1})
    # 1000 x 2 = 2000; 3 x 10000, 30000
    assert cost(used).nano == 62_000_000


def test_a_hosted_tool_without_a_price_makes_the_cost_unknown_and_the_known_part_is_said() -> None:
    used = Usage(input_tokens=1_000, hosted_tools={"web_search": 1, "file_search": 2, "x_search": 1})
    unknown = cost(used)
    assert unknown.nano is None
    assert unknown.source == (
        "no price for hosted tools: file_search (x2), x_search (x1); the rest costs $0.012 by table (m)"
    )


def test_a_tier_has_its_own_price_and_the_calls_cost_the_same_unless_it_says_otherwise() -> None:
    used = Usage(input_tokens=1_000, output_tokens=100, hosted_tools={"web_search": 1})
    # 1000 x 1 = 1000, 100 x 4 = 400, 10000
    assert cost(used, "flex") == Cost(11_400_000, "table (m, flex)")
    assert cost(used, "batch") == Cost(1_400_000, "table (m, batch)")
    # 1000 x 2 = 2000, 100 x 8 = 800, 10000
    assert [cost(used, tier).nano for tier in (None, "default", "auto", "standard")] == [12_800_000] * 4


def test_a_tier_that_your_table_does_not_name_is_unknown_unless_it_names_none_at_all() -> None:
    used = Usage(input_tokens=1_000)
    assert cost(used, "priority") == Cost(None, "no price for tier priority of model m: your table does not name it")
    for_all = price_usage(
        used, model="m", provider=None, tier="priority", at_ms=NOW, table={"m": Price(input="2", output="8")}
    )
    assert for_all.nano == 2_000_000


@pytest.mark.parametrize(
    ("tokens", "each", "source"),
    [
        (200_000, 2, "table (m)"),
        (200_001, 4, "table (m, above 200000)"),
        (500_000, 4, "table (m, above 200000)"),
        (500_001, 6, "table (m, above 500000)"),
    ],
)
def test_a_long_input_has_the_price_of_the_highest_number_that_it_passes(tokens: int, each: int, source: str) -> None:
    assert cost(Usage(input_tokens=tokens)) == Cost(tokens * each * 1_000, source)


def test_a_price_with_tiers_and_long_inputs_comes_back_from_json() -> None:
    price = TABLE["m"]
    assert Price.model_validate_json(price.model_dump_json()) == price
    assert price.tiers["flex"].input == Decimal(1) and price.above[200_000].output == Decimal(12)


@pytest.mark.parametrize("wrong", [{"per_call": {"web_search": 0.01}}, {"input_audio": 0.5}])
def test_a_float_is_refused_wherever_it_stands(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="float"):
        Price(input=1, output=1, **wrong)  # type: ignore[arg-type]


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Tokens that add up: each part inside its whole."""

    def some() -> int:
        return draw(st.integers(min_value=0, max_value=10**9))

    heard, seen, read, written, plain, spoken, drawn_, said = (some() for _ in range(8))
    return Usage(
        input_tokens=heard + seen + read + written + plain,
        output_tokens=spoken + drawn_ + said,
        cached_tokens=read,
        cache_write_tokens=written,
        cache_write_long_tokens=draw(st.integers(min_value=0, max_value=written)),
        reasoning_tokens=draw(st.integers(min_value=0, max_value=said)),
        input_audio_tokens=heard,
        output_audio_tokens=spoken,
        input_image_tokens=seen,
        output_image_tokens=drawn_,
        hosted_tools=draw(st.dictionaries(st.just("web_search"), st.integers(min_value=1, max_value=100))),
    )


def prices(decimals: int) -> st.SearchStrategy[Price]:
    """Prices with so many decimals. Up to three, a token is a whole number of nano-dollars."""
    each = st.decimals(min_value=0, max_value=1_000, places=decimals, allow_nan=False)
    maybe = st.none() | each
    kinds = ("cached", "cache_write", "cache_write_long", "input_audio", "output_audio", "input_image", "output_image")
    return st.builds(
        Price,
        input=each,
        output=each,
        **{kind: maybe for kind in kinds},
        per_call=st.fixed_dictionaries({"web_search": each}),
    )


def together(one: Usage, other: Usage) -> Usage:
    kinds = [kind for kind in Usage.model_fields if kind != "hosted_tools"]
    calls = one.hosted_tools.get("web_search", 0) + other.hosted_tools.get("web_search", 0)
    return Usage(
        **{kind: getattr(one, kind) + getattr(other, kind) for kind in kinds}, hosted_tools={"web_search": calls}
    )


def nano(usage: Usage, price: Price) -> int:
    found = price_usage(usage, model="m", provider=None, at_ms=NOW, table={"m": price}).nano
    assert found is not None
    return found


@given(usages(), usages(), prices(3))
def test_two_attempts_cost_exactly_what_their_tokens_cost_together(one: Usage, other: Usage, price: Price) -> None:
    assert nano(one, price) + nano(other, price) == nano(together(one, other), price)


@given(usages(), st.integers(min_value=1, max_value=50), prices(3))
def test_as_many_times_the_tokens_cost_exactly_as_many_times_the_price(usage: Usage, times: int, price: Price) -> None:
    many = Usage()
    for _ in range(times):
        many = together(many, usage)
    assume(times * nano(usage, price) <= MOST)
    assert nano(many, price) == times * nano(usage, price)


@given(usages(), usages(), prices(9))
def test_with_the_finest_prices_rounding_costs_at_most_one_nano_dollar(one: Usage, other: Usage, price: Price) -> None:
    assert abs(nano(one, price) + nano(other, price) - nano(together(one, other), price)) <= 1

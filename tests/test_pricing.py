"""Prices: exact, in whole nano-dollars, and unknown wherever they are not sure.

Tokens times dollars per million tokens are micro-dollars: that is how the comments count.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, localcontext

import genai_prices
import pytest
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from pydantic import ValidationError

from agentcheckpoint.core.models import Usage
from agentcheckpoint.core.pricing import Cost, Price, price_usage


def ms(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


NOW = ms(2026, 11, 20)


def used(
    taken: int = 0, given: int = 0, *, cached: int = 0, written: int = 0, reasoning: int = 0, heard: int = 0
) -> Usage:
    return Usage(
        input_tokens=taken,
        output_tokens=given,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        input_audio_tokens=heard,
    )


def own(usage: Usage, **prices: int | str | Decimal) -> Cost:
    return price_usage(usage, model="m", provider=None, at_ms=NOW, table={"m": Price(**prices)})


@pytest.mark.parametrize(
    ("provider", "model", "tier", "usage", "nano"),
    [
        # 6000 x 1.25 = 7500, 4000 x 0.125 = 500, 1000 x 10 = 10000: 18000 micro-dollars
        ("openai", "gpt-5", None, used(10_000, 1_000, cached=4_000), 18_000_000),
        # 10000 x 1.25 = 12500, 1000 x 10 = 10000, and the 600 reasoning tokens lie inside the 1000
        ("openai", "gpt-5-2025-08-07", "default", used(10_000, 1_000, reasoning=600), 22_500_000),
        # 10000 x 0.625 = 6250, 1000 x 5 = 5000
        ("openai", "gpt-5", "flex", used(10_000, 1_000), 11_250_000),
        # 6000 x 0.625 = 3750, 4000 x 0.0625 = 250, 1000 x 5 = 5000
        ("openai", "gpt-5", "flex", used(10_000, 1_000, cached=4_000), 9_000_000),
        # 10000 x 2.5 = 25000, 1000 x 20 = 20000
        ("openai", "gpt-5", "priority", used(10_000, 1_000), 45_000_000),
        # 10000 x 0.625 = 6250, 1000 x 5 = 5000
        ("openai", "gpt-5", "batch", used(10_000, 1_000), 11_250_000),
        # "auto" is the full price: 10000 x 1.25 = 12500, 1000 x 10 = 10000
        ("openai", "gpt-5", "auto", used(10_000, 1_000), 22_500_000),
        # Groq's flex tier is the full price: 10000 x 0.15 = 1500, 1000 x 0.6 = 600
        ("groq", "openai/gpt-oss-120b", "flex", used(10_000, 1_000), 2_100_000),
        # 1 x 0.15 + 1 x 0.60 = 0.75
        ("openai", "gpt-4o-mini", None, used(1, 1), 750),
        # 10000 x 2.5 = 25000, 1000 x 10 = 10000
        ("openai", "gpt-4o", None, used(10_000, 1_000), 35_000_000),
        # 6000 x 0.4 = 2400, 4000 x 0.1 = 400, 1000 x 1.6 = 1600
        ("openai", "gpt-4.1-mini", None, used(10_000, 1_000, cached=4_000), 4_400_000),
        # above 272000 input tokens all cost more: 150000 x 8 = 1200000, 100000 x 0.8 = 80000, 50000 x 10 = 500000,
        # 1000 x 30 = 30000
        ("openai", "gpt-5.6-sol", None, used(300_000, 1_000, cached=100_000, written=50_000), 1_810_000_000),
        # below: 1000 x 4 = 4000, 100 x 20 = 2000
        ("openai", "gpt-5.6-sol", None, used(1_000, 100), 6_000_000),
        # 1000 x 0.02 = 20; embeddings have no output
        ("openai", "text-embedding-3-small", None, used(1_000), 20_000),
        # 500 x 2.5 = 1250, 500 of audio x 32 = 16000, 10 x 10 = 100
        ("openai", "gpt-audio", None, used(1_000, 10, heard=500), 17_350_000),
        # 100 x 3 = 300, 1000 x 0.3 = 300, 200 x 3.75 = 750, 50 x 15 = 750
        ("anthropic", "claude-sonnet-4-5", "standard", used(1_300, 50, cached=1_000, written=200), 2_100_000),
        # 100 x 1.5 = 150, 1000 x 0.15 = 150, 200 x 1.875 = 375, 50 x 7.5 = 375
        ("anthropic", "claude-sonnet-4-5", "batch", used(1_300, 50, cached=1_000, written=200), 1_050_000),
        # 10000 x 5 = 50000, 1000 x 25 = 25000
        ("anthropic", "claude-opus-4-7", None, used(10_000, 1_000), 75_000_000),
        # above 200000 input tokens: 1000000 x 2.5 = 2500000, 1000 x 15 = 15000
        ("google", "gemini-2.5-pro", None, used(1_000_000, 1_000), 2_515_000_000),
        # 800 x 0.3 = 240, 200 of audio x 1 = 200, 100 x 2.5 = 250
        ("google", "gemini-2.5-flash", None, used(1_000, 100, heard=200), 690_000),
    ],
)
def test_a_listed_model_costs_what_the_sum_by_hand_says(
    provider: str, model: str, tier: str | None, usage: Usage, nano: int
) -> None:
    assert price_usage(usage, model=model, provider=provider, tier=tier, at_ms=NOW).nano == nano


def test_the_price_is_that_of_the_day_on_which_the_request_was_sent() -> None:
    usage = used(1_000_000)
    # 1000000 x 10 in May 2025, 1000000 x 2 after the tenth of June
    before = price_usage(usage, model="o3", provider="openai", at_ms=ms(2025, 5, 1))
    after = price_usage(usage, model="o3", provider="openai", at_ms=ms(2025, 7, 1))
    assert (before.nano, after.nano) == (10_000_000_000, 2_000_000_000)


def test_the_source_names_package_version_provider_matched_model_and_tier() -> None:
    plain = price_usage(used(1), model="gpt-5-2025-08-07", provider="openai", at_ms=NOW)
    flex = price_usage(used(1), model="gpt-5", provider="openai", tier="flex", at_ms=NOW)
    assert plain.source == f"genai-prices {genai_prices.__version__} (openai:gpt-5)"
    assert flex.source == f"genai-prices {genai_prices.__version__} (openai:gpt-5, flex)"


def test_the_source_says_when_the_list_was_updated_after_the_package_was_made() -> None:
    fresh = DataSnapshot(get_snapshot().providers, from_auto_update=True, timestamp=datetime(2026, 11, 19))
    set_custom_snapshot(fresh)
    try:
        cost = price_usage(used(1), model="gpt-5", provider="openai", at_ms=NOW)
    finally:
        set_custom_snapshot(None)
    assert cost.source == f"genai-prices {genai_prices.__version__} of 2026-11-19 (openai:gpt-5)"


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("openai", "gpt-99", "no price for model gpt-99 of openai"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::x", "fine-tuned"),
        ("openai", "FT:gpt-4o-mini-2024-07-18:acme::x", "fine-tuned"),
        ("azure", "gpt-4o-mini-2024-07-18.ft-0123", "fine-tuned"),
        (None, "gpt-5", "its server is not a known provider"),
        ("my-openai-proxy", "gpt-5", "my-openai-proxy is not a known provider"),
        ("nobody", "gpt-5", "no price for model gpt-5 of nobody"),
        ("openai", None, "the model is not known"),
    ],
)
def test_what_has_no_sure_price_is_unknown_and_says_why(provider: str | None, model: str | None, reason: str) -> None:
    cost = price_usage(used(1_000, 10), model=model, provider=provider, at_ms=NOW)
    assert cost.nano is None
    assert cost.source.startswith("no price")
    assert reason in cost.source


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        ("openai", "tts-1", used(1_000)),  # sold by the character
        ("google", "gemma-3", used(1_000, 10)),  # listed without any price
        ("openai", "text-embedding-3-small", used(1_000, 10)),  # output has no price
    ],
)
def test_tokens_of_a_model_without_a_price_for_them_are_unknown_where_the_package_would_take_none(
    provider: str, model: str, usage: Usage
) -> None:
    cost = price_usage(usage, model=model, provider=provider, at_ms=NOW)
    assert cost == Cost(None, f"no price for model {model} by tokens")


@pytest.mark.parametrize(
    ("provider", "model", "tier", "usage", "at_ms"),
    [
        ("openai", "gpt-5", "ultrafast", used(10), NOW),  # the package knows no such tier
        ("openai", "gpt-5", "scale", used(10), NOW),  # paid for in advance, not by the token
        ("openai", "gpt-5.5", "priority", used(272_001), NOW),  # the priority tier excludes long context
        ("anthropic", "claude-opus-5", "us", used(10), NOW),  # inference in one country has a price of its own
        ("openai", "gpt-4o", "flex", used(10), NOW),  # a tier that this model does not have
        ("openai", "gpt-5", "flex", used(10), ms(2026, 9, 1)),  # the package knows its price since October only
        ("openai", "o3", "batch", used(10, cached=4), NOW),  # no batch price of cached tokens is named
        ("azure", "gpt-5.5", "priority", used(10), NOW),  # found at openai, whose tiers are not azure's
    ],
)
def test_a_tier_without_a_price_of_its_own_is_unknown_where_the_package_would_take_the_full_price(
    provider: str, model: str, tier: str, usage: Usage, at_ms: int
) -> None:
    cost = price_usage(usage, model=model, provider=provider, tier=tier, at_ms=at_ms)
    assert cost.nano is None
    assert cost.source.startswith(f"no price for tier {tier} of model {model}")
    assert price_usage(usage, model=model, provider=provider, at_ms=at_ms).nano is not None


def test_unmeasured_is_unknown_even_with_a_price() -> None:
    table = {"gpt-5": Price(input=1, output=1)}
    assert price_usage(None, model="gpt-5", provider="openai", at_ms=NOW, table=table) == Cost(None, "unmeasured")


def test_your_own_table_comes_first_and_by_the_exact_name() -> None:
    table = {"gpt-5": Price(input=1, output=2)}
    # 1000 x 1 = 1000, 100 x 2 = 200
    mine = price_usage(used(1_000, 100), model="gpt-5", provider="openai", tier="flex", at_ms=NOW, table=table)
    assert mine == Cost(1_200_000, "table (gpt-5)")
    # 1000 x 1.25 = 1250, 100 x 10 = 1000
    listed = price_usage(used(1_000, 100), model="gpt-5-2025-08-07", provider="openai", at_ms=NOW, table=table)
    assert listed.nano == 2_250_000


def test_your_own_table_prices_servers_and_fine_tuned_models_that_nobody_lists() -> None:
    table = {"ft:gpt-4o:acme": Price(input="3.75", output=15), "llama": Price(input=0, output=0)}
    # 100 x 3.75 = 375, 10 x 15 = 150
    tuned = price_usage(used(100, 10), model="ft:gpt-4o:acme", provider="openai", at_ms=NOW, table=table)
    free = price_usage(used(100, 10), model="llama", provider=None, at_ms=NOW, table=table)
    assert (tuned, free) == (Cost(525_000, "table (ft:gpt-4o:acme)"), Cost(0, "table (llama)"))


def test_cached_and_cache_write_tokens_lie_inside_the_input() -> None:
    usage = used(1_000, 100, cached=600, written=300, reasoning=90)
    # 100 x 2 = 200, 600 x 0.2 = 120, 300 x 2.5 = 750, 100 x 8 = 800
    assert own(usage, input=2, output=8, cached="0.20", cache_write="2.50").nano == 1_870_000
    # without prices of their own they cost what input costs: 1000 x 2 = 2000, 100 x 8 = 800
    assert own(usage, input=2, output=8).nano == 2_800_000


@pytest.mark.parametrize(("tokens", "nano"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_half_a_nano_dollar_is_rounded_to_the_even_one(tokens: int, nano: int) -> None:
    # 0.0005 dollars a million is half a nano-dollar a token: 0.5, 1.5, 2.5, 3.5
    assert own(used(tokens), input="0.0005", output=0).nano == nano


def test_rounding_happens_once_for_the_whole_attempt() -> None:
    # 0.5 + 0.5 nano-dollars are one; rounded each for itself they would be none
    assert own(used(1, 1), input="0.0005", output="0.0005").nano == 1


@pytest.mark.parametrize("provider", [None, "openai"])
def test_the_callers_decimal_context_changes_no_cost(provider: str | None) -> None:
    table: Mapping[str, Price] = {} if provider else {"gpt-5": Price(input="1.25", output=10)}
    with localcontext() as ambient:
        ambient.prec = 2
        cost = price_usage(used(123_457, 7), model="gpt-5", provider=provider, at_ms=NOW, table=table)
    # 123457 x 1.25 = 154321.25, 7 x 10 = 70
    assert cost.nano == 154_391_250


@pytest.mark.parametrize(
    ("usage", "at_ms", "table"),
    [
        (used(10, cached=20), NOW, {}),
        (used(10, cached=20), NOW, {"gpt-5": Price(input=1, output=1)}),
        (used(10), 10**20, {}),
        (used(10), NOW, {"gpt-5": "1.25"}),
        (used(10), NOW, {"gpt-5": Price(input="1e999999", output=1)}),
        (used(2**53), NOW, {}),
    ],
    ids=["cached beyond input", "so in the table", "no such date", "no Price", "no such price", "no such bill"],
)
def test_nonsense_makes_the_cost_unknown_and_raises_nothing(usage: Usage, at_ms: int, table: dict[str, Price]) -> None:
    cost = price_usage(usage, model="gpt-5", provider="openai", at_ms=at_ms, table=table)
    assert cost.nano is None
    assert cost.source


@pytest.mark.parametrize("value", [2.5, True, [1]])
def test_a_price_that_is_a_float_or_no_number_is_refused_with_what_to_write(value: object) -> None:
    with pytest.raises(TypeError, match=r'Price\(input=\.\.\.\): .* such as "2\.50"'):
        Price(input=value, output=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", "cheap", "NaN", "Infinity", "-1", -1, "$2.50"])
def test_a_price_that_is_no_amount_is_refused(value: str | int) -> None:
    with pytest.raises(ValueError, match="not an amount of dollars"):
        Price(input=1, output=value)


def test_a_price_is_frozen_and_comes_back_from_json_exactly() -> None:
    price = Price(input="2.50", output=Decimal("10.000000001"), cached=0)
    assert Price.model_validate_json(price.model_dump_json()) == price
    assert price.output == Decimal("10.000000001")
    with pytest.raises(ValidationError, match="frozen"):
        price.input = Decimal(1)


def test_importing_the_money_loads_neither_price_list_nor_openai_nor_redis() -> None:
    names = "agentcheckpoint.core.pricing, agentcheckpoint.core.ledger, agentcheckpoint.show.text"
    heavy = {"genai_prices", "openai", "httpx2", "redis", "rich", "tenacity"}
    code = f"import sys, agentcheckpoint.openai.usage, {names}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

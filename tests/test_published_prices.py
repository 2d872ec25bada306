"""What the list of prices says against what was read on the providers' pages, kind by kind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider
from published_prices import NOON, ROWS, UNSOURCED, Row

from agentcheckpoint.core.models import Usage
from agentcheckpoint.core.pricing import price_usage

COUNT = 1_000
KINDS = {
    "input": Usage(input_tokens=COUNT),
    "cached": Usage(input_tokens=COUNT, cached_tokens=COUNT),
    "output": Usage(output_tokens=COUNT),
    "cache_write": Usage(input_tokens=COUNT, cache_write_tokens=COUNT),
    "cache_write_long": Usage(input_tokens=COUNT, cache_write_tokens=COUNT, cache_write_long_tokens=COUNT),
    "input_audio": Usage(input_tokens=COUNT, input_audio_tokens=COUNT),
    "output_image": Usage(output_tokens=COUNT, output_image_tokens=COUNT),
}
CHECKS = [(row, kind) for row in ROWS for kind in (*KINDS, "web_search") if getattr(row, kind) is not None]


def cost(row: Row, usage: Usage) -> int:
    at_ms = int(row.when.timestamp()) * 1000
    found = price_usage(usage, model=row.model, provider=row.provider, tier=row.tier, at_ms=at_ms)
    assert found.nano is not None, found.source
    return found.nano


def per_kind(row: Row, kind: str) -> Decimal:
    """Dollars per million tokens of a kind, or per call: what it adds to what is there beside it."""
    # one more than is named as the threshold: prices above it hold for "more than" so many
    beside = Usage(input_tokens=row.long + 1 if row.long else 0)
    if kind == "web_search":
        added = cost(row, beside.model_copy(update={"hosted_tools": {kind: COUNT}})) - cost(row, beside)
        return Decimal(added) / COUNT / 10**9
    tokens = KINDS[kind]
    counts = {name: getattr(tokens, name) + getattr(beside, name) for name in Usage.model_fields if "tokens" in name}
    return Decimal(cost(row, Usage(**counts)) - cost(row, beside)) / COUNT / 1_000


@pytest.mark.parametrize(
    ("row", "kind"), CHECKS, ids=[f"{row.model}-{row.tier}-{row.long}-{kind}" for row, kind in CHECKS]
)
def test_the_price_is_the_published_one(row: Row, kind: str) -> None:
    assert per_kind(row, kind) == Decimal(getattr(row, kind))


def test_at_least_twenty_models_and_tiers_have_a_source_and_a_date() -> None:
    sourced = [row for row in ROWS if row.source != UNSOURCED]
    assert len({(row.provider, row.model, row.tier) for row in sourced}) >= 20
    assert all(row.read for row in sourced) and not any(row.read for row in ROWS if row.source == UNSOURCED)
    assert len({row.tier for row in sourced}) >= 5 and len({row.provider for row in sourced}) >= 5


def test_a_wrong_number_in_the_list_of_prices_would_be_seen() -> None:
    row = next(row for row in ROWS if row.model == "gpt-5.5-pro")
    known = get_snapshot()
    wrong = replace_price(known, "openai", "gpt-5.5-pro", input_mtok=Decimal("30.01"), output_mtok=Decimal(180))
    set_custom_snapshot(wrong)
    try:
        assert per_kind(row, "input") != Decimal(str(row.input))
        assert per_kind(row, "output") == Decimal(str(row.output))
    finally:
        set_custom_snapshot(None)
    assert per_kind(row, "input") == Decimal(str(row.input))


def replace_price(known: DataSnapshot, provider: str, model: str, **prices: Decimal) -> DataSnapshot:
    def changed(each: ModelInfo) -> ModelInfo:
        return replace(each, prices=ModelPrice(**prices)) if each.id == model else each

    def provided(each: Provider) -> Provider:
        return replace(each, models=[changed(one) for one in each.models]) if each.id == provider else each

    return DataSnapshot([provided(each) for each in known.providers], from_auto_update=False)


def test_deepseeks_peak_hours_are_unknown_since_they_do_not_hold_on_holidays() -> None:
    peak = NOON + timedelta(hours=14)  # 02:00 UTC, on a Saturday
    found = price_usage(
        Usage(input_tokens=1), model="deepseek-flash", provider="deepseek", at_ms=int(peak.timestamp()) * 1000
    )
    assert found.nano is None
    assert found.source == "no price for model deepseek-flash at 02:00 UTC: it depends on the hour, and on holidays"


@pytest.mark.parametrize(
    ("provider", "model", "usage", "reason"),
    [
        # audio costs a multiple of text: without its price it would be priced as text
        ("openai", "gpt-4o-audio-preview", Usage(input_tokens=9, input_audio_tokens=9), "input_audio_tokens"),
        ("openai", "gpt-4o-audio-preview", Usage(output_tokens=9, output_audio_tokens=9), "output_audio_tokens"),
        # OpenAI's twelve-hour cache writes are not in the package
        (
            "openai",
            "gpt-5.6-sol",
            Usage(input_tokens=9, cache_write_tokens=9, cache_write_long_tokens=9),
            "cache_write_long_tokens",
        ),
        # the fee per request depends on how much was searched
        ("perplexity", "sonar", Usage(input_tokens=9), "requests_kcount"),
        ("perplexity", "sonar-deep-research", Usage(input_tokens=9), "output_citation_mtok"),
    ],
)
def test_what_the_package_would_fill_up_is_refused(provider: str, model: str, usage: Usage, reason: str) -> None:
    found = price_usage(usage, model=model, provider=provider, at_ms=int(NOON.timestamp()) * 1000)
    assert found.nano is None
    assert found.source.startswith("no price for") and reason in found.source

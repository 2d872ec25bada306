"""Published prices, from the genai-prices package: what it surely says, and nothing that it fills up.

The package prices whatever it is asked for: a tier that it does not know at the full price, a kind of tokens without a
price like the kind that it lies in. All of that is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from agentcheckpoint.core.models import Usage
from agentcheckpoint.core.quote import STANDARD_TIERS, NoPrice, Quote

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, PriceCalculation, PriceContext

_PER_CALL = {"web_search": "web_searches", "file_search": "storage_searches"}
"""Hosted tools that the package knows, by its words."""

_INCLUDED = {("anthropic", "web_fetch")}
"""Hosted tools that cost their tokens alone, by https://platform.claude.com/docs/en/about-claude/pricing."""

_PLAIN_TIERS = {("groq", "flex")}
"""Tiers at the plain price, by https://console.groq.com/docs/flex-processing."""

_UNCOUNTED = ("requests_kcount", "output_citation_mtok")
"""Prices of what no answer is read for: fees that depend on the request, and Perplexity's citations."""

_ONE_RATE_FOR_ALL = frozenset({"google"})
"""Whose price of tokens holds for audio too, where none is named for it; elsewhere the package merely lacks one."""

_KINDS = {
    "input_tokens": "input_mtok",
    "output_tokens": "output_mtok",
    "cached_tokens": "cache_read_mtok",
    "cache_write_tokens": "cache_write_mtok",
    "cache_write_long_tokens": "cache_write_1h_mtok",
    "reasoning_tokens": "output_reasoning_mtok",
    "input_audio_tokens": "input_audio_mtok",
    "output_audio_tokens": "output_audio_mtok",
    "cached_audio_tokens": "cache_audio_read_mtok",
    "input_image_tokens": "input_image_mtok",
    "output_image_tokens": "output_image_mtok",
    "cached_image_tokens": "cache_image_read_mtok",
}
"""The package's price of each kind of tokens."""


def published_price(usage: Usage, model: str | None, provider: str | None, tier: str | None, at_ms: int) -> Quote:
    """Price one attempt, on the day on which it was sent.

    Raises:
        NoPrice: the list has no sure price; says why.
    """
    if model is None:
        raise NoPrice("no price: the model is not known")
    if provider is None:
        raise NoPrice(f"no price for model {model}: its server is not a known provider")
    if model.lower().startswith("ft:") or ".ft-" in model.lower():
        raise NoPrice(f"no price for model {model}: fine-tuned")
    when = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    is_plain = tier in STANDARD_TIERS or (provider, tier) in _PLAIN_TIERS
    context = None if is_plain else _context(provider, str(tier))
    found = _calculate(usage, model, provider, when, context)
    _check_price(found, usage, model)
    _check_hour(found, when, model)
    if context is not None:
        _check_tier(found, usage, context, when, f"tier {tier} of model {model}")
    calls = {kind: calls for kind, calls in usage.hosted_tools.items() if (provider, kind) not in _INCLUDED}
    unpriced = {kind: n for kind, n in calls.items() if not _sells(found.model_price, kind)}
    return Quote(found.total_price, _source(found, tier if context else None), unpriced)


def _calculate(
    usage: Usage, model: str, provider: str, when: datetime, context: PriceContext | None
) -> PriceCalculation:
    import genai_prices

    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(**_counts(usage)),
            model,
            provider_id=provider,
            genai_request_timestamp=when,
            price_context=context,
        )
    except LookupError:
        raise NoPrice(f"no price for model {model} of {provider}") from None
    if found.provider.id != provider:  # the package takes "my-openai-proxy" for openai
        raise NoPrice(f"no price for model {model}: {provider} is not a known provider")
    return found


def _context(provider: str, tier: str) -> PriceContext:
    if tier == "batch":
        return {"processing": "batch"}
    return {"speed": "fast"} if (provider, tier) == ("anthropic", "fast") else {"service_tier": tier}


def _counts(usage: Usage) -> dict[str, int | float | Decimal | None]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_long_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "cache_audio_read_tokens": usage.cached_audio_tokens,
        "input_image_tokens": usage.input_image_tokens,
        "output_image_tokens": usage.output_image_tokens,
        "cache_image_read_tokens": usage.cached_image_tokens,
        **{word: usage.hosted_tools.get(kind, 0) for kind, word in _PER_CALL.items()},
    }


def _source(found: PriceCalculation, tier: str | None) -> str:
    import genai_prices

    # A list of prices that the user lets the package update is newer than its version says.
    updated = found.auto_update_timestamp
    version = genai_prices.__version__ + (f" of {updated:%Y-%m-%d}" if updated else "")
    return f"genai-prices {version} ({found.provider.id}:{found.model.id}{f', {tier}' if tier else ''})"


def _sells(prices: ModelPrice, kind: str) -> bool:
    """Whether the model's prices name one for a call of this hosted tool."""
    return kind in _PER_CALL and _names(prices, f"{_PER_CALL[kind]}_kcount")


def _check_price(found: PriceCalculation, usage: Usage, model: str) -> None:
    """Refuse kinds of tokens that cost more than the kind that they lie in, where the package lacks their price."""
    price = found.model_price
    # The package prices tokens at 0 where a model is sold by the character or the hour.
    if not _names(price, "input_mtok") or (usage.output_tokens and not _names(price, "output_mtok")):
        raise NoPrice(f"no price for model {model} by tokens")
    if fee := next((key for key in _UNCOUNTED if _names(price, key)), None):
        raise NoPrice(f"no price for model {model} by tokens alone: {fee}")
    dearer = ["cache_write_long_tokens"]
    if found.provider.id not in _ONE_RATE_FOR_ALL:
        dearer += ["input_audio_tokens", "output_audio_tokens"]
    for kind in dearer:
        if getattr(usage, kind) and not _names(price, _KINDS[kind]):
            raise NoPrice(f"no price for {kind} of model {model}")


def _check_hour(found: PriceCalculation, when: datetime, model: str) -> None:
    """Refuse prices of certain hours: they do not hold on holidays, and the package knows neither these nor Sundays."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint

    if isinstance(found.model.prices, ModelPrice):
        return
    active = (price for price in reversed(found.model.prices) if not price.constraint or price.constraint.active(when))
    if (chosen := next(active, None)) is not None and isinstance(chosen.constraint, TimeOfDateConstraint):
        raise NoPrice(f"no price for model {model} at {when:%H:%M} UTC: it depends on the hour, and on holidays")


def _check_tier(found: PriceCalculation, usage: Usage, context: PriceContext, when: datetime, what: str) -> None:
    """Refuse what the package fills up silently with the full price: tiers, dates and tokens that it has no price for.

    For a model that it found at another provider it ignores the tier altogether.
    """
    own = any(found.model is model for model in found.provider.models)
    variants = [
        variant.prices
        for variant in (found.model.price_variants or ())
        if variant.when == context and (variant.constraint is None or variant.constraint.active(when))
    ]
    if not own or not variants:
        raise NoPrice(f"no price for {what}")
    standard = found.model.get_prices(when)
    for key in _used(usage):
        if _names(standard, key) and not any(_names(prices, key) for prices in variants):
            raise NoPrice(f"no price for {what}: {key} is not named")
        if _is_long(standard, key, usage) and not _is_long(found.model_price, key, usage):
            raise NoPrice(f"no price for {what} with so long an input")


def _used(usage: Usage) -> list[str]:
    """The prices of the kinds of tokens that there are."""
    counts: Mapping[str, int] = {kind: getattr(usage, kind) for kind in _KINDS}
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    return [key for kind, key in _KINDS.items() if (plain if kind == "input_tokens" else counts[kind])]


def _is_long(prices: ModelPrice, key: str, usage: Usage) -> bool:
    """Whether the input is so long that it has another price."""
    from genai_prices.types import TieredPrices

    price: object = getattr(prices, key)
    return isinstance(price, TieredPrices) and usage.input_tokens > price.tiers[0].start


def _names(prices: ModelPrice, key: str) -> bool:
    return getattr(prices, key) is not None


def newest_price(today: date) -> date | None:
    """The last day up to today from which on a price of the list holds: the list is no older than that."""
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import StartDateConstraint

    return max(
        (
            price.constraint.start_date
            for provider in get_snapshot().providers
            for model in provider.models
            if isinstance(model.prices, list)
            for price in model.prices
            if isinstance(price.constraint, StartDateConstraint) and price.constraint.start_date <= today
        ),
        default=None,
    )

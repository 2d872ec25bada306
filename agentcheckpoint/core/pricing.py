"""What an attempt cost: usage x price, exact, in whole nano-dollars. What has no sure price is unknown, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from agentcheckpoint.core.models import MOST, Record, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, PriceCalculation

Dollars: TypeAlias = int | str | Decimal
"""US dollars per million tokens."""

_NANO_PER_DOLLAR = 10**9
_TOKENS_PER_PRICE = 10**6
_LONGEST_REASON = 200
_EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""Our own: the caller's decimal context may have any precision."""

_STANDARD_TIERS = frozenset({None, "", "default", "auto", "scale", "standard"})
_NO_PRICES: Mapping[str, Price] = MappingProxyType({})


class Price(Record):
    """Your own price of a model, in US dollars per million tokens.

    It holds for every service tier. Audio tokens are priced as the input and output that they lie in.

    Args:
        input: a million input tokens, such as ``"2.50"``.
        output: a million output tokens, reasoning included.
        cached: a million input tokens read from the provider's cache; the price of input if ``None``.
        cache_write: a million input tokens written to that cache; the price of input if ``None``.

    Raises:
        TypeError: a float, which is not the number you wrote; write it as a string.
        ValueError: not a number, not finite, or negative.
    """

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None

    def __init__(
        self, *, input: Dollars, output: Dollars, cached: Dollars | None = None, cache_write: Dollars | None = None
    ) -> None:
        given = {"input": input, "output": output, "cached": cached, "cache_write": cache_write}
        super().__init__(**{name: _dollars(name, value) for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Cost:
    """What an attempt cost.

    Attributes:
        nano: nano-dollars; ``None``: unknown, which is not 0.
        source: where the price came from, or why there is none.
    """

    nano: int | None
    source: str


class _NoPrice(Exception):
    """There is no sure price; the message says why."""


def price_usage(
    usage: Usage | None,
    *,
    model: str | None,
    asked: str | None = None,
    provider: str | None,
    tier: str | None = None,
    at_ms: int,
    table: Mapping[str, Price] = _NO_PRICES,
) -> Cost:
    """Price the tokens of one attempt, from the caller's table, else from the genai-prices package.

    Args:
        usage: the tokens; ``None``: unmeasured.
        model: the model as served; the table is looked up by exactly this name, and then by ``asked``.
        asked: the model as asked for, such as an alias of a dated one.
        provider: the provider's id in genai-prices, such as ``"openai"``; ``None``: a server that nobody knows.
        tier: the service tier in the response, or ``"batch"``.
        at_ms: when the request was sent, milliseconds since the epoch: prices change.
        table: the caller's own prices by model.

    Returns:
        The cost, rounded half-even once. Nothing is raised: what is priced here was paid for.
    """
    if usage is None:
        return Cost(None, "unmeasured")
    try:
        with localcontext(_EXACT):
            own = next((table[name] for name in (model, asked) if name is not None and name in table), None)
            if own is not None:
                return Cost(_nano(_own_price(usage, own)), "table")
            dollars, source = _listed_price(usage, model or asked, provider, tier, at_ms)
            return Cost(_nano(dollars), source)
    except _NoPrice as reason:
        return Cost(None, str(reason)[:_LONGEST_REASON])
    except Exception as error:
        return Cost(None, f"no price for model {model}: {type(error).__name__}: {error}"[:_LONGEST_REASON])


def _own_price(usage: Usage, price: Price) -> Decimal:
    cached = price.input if price.cached is None else price.cached
    written = price.input if price.cache_write is None else price.cache_write
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    if plain < 0:
        raise _NoPrice("more cached and cache-write tokens than input tokens")
    parts = (
        plain * price.input,
        usage.cached_tokens * cached,
        usage.cache_write_tokens * written,
        usage.output_tokens * price.output,
    )
    return sum(parts, Decimal(0)) / _TOKENS_PER_PRICE


def _listed_price(
    usage: Usage, model: str | None, provider: str | None, tier: str | None, at_ms: int
) -> tuple[Decimal, str]:
    """The price in dollars that genai-prices names, and the words for where it came from."""
    if model is None:
        raise _NoPrice("no price: the model is not known")
    if provider is None:
        raise _NoPrice(f"no price for model {model}: its server is not a known provider")
    if model.lower().startswith("ft:") or ".ft-" in model.lower():
        raise _NoPrice(f"no price for model {model}: fine-tuned")
    import genai_prices

    when = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    context = None if tier in _STANDARD_TIERS else _context(str(tier))
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(**_counts(usage)),
            model,
            provider_id=provider,
            genai_request_timestamp=when,
            price_context=context,
        )
    except LookupError:
        raise _NoPrice(f"no price for model {model} of {provider}") from None
    if found.provider.id != provider:  # the package takes "my-openai-proxy" for openai
        raise _NoPrice(f"no price for model {model}: {provider} is not a known provider")
    _check_units(found, usage, model)
    if context is not None:
        _check_tier(found, usage, context, when, f"tier {tier} of model {model}")
    # A list of prices that the user lets the package update is newer than its version says.
    updated = found.auto_update_timestamp
    version = genai_prices.__version__ + (f" of {updated:%Y-%m-%d}" if updated else "")
    matched = f"{found.provider.id}:{found.model.id}" + (f", {tier}" if context else "")
    return found.total_price, f"genai-prices {version} ({matched})"


def _context(tier: str) -> dict[str, str]:
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


def _counts(usage: Usage) -> dict[str, int | float | Decimal | None]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
    }


def _check_units(found: PriceCalculation, usage: Usage, model: str) -> None:
    # The package prices tokens at 0 where a model is sold by the character or the hour.
    price = found.model_price
    if price.input_mtok is None or (usage.output_tokens and price.output_mtok is None):
        raise _NoPrice(f"no price for model {model} by tokens")


def _check_tier(found: PriceCalculation, usage: Usage, context: dict[str, str], when: datetime, what: str) -> None:
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
        raise _NoPrice(f"no price for {what}")
    used = {
        "input_mtok": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "output_mtok": usage.output_tokens,
        "cache_read_mtok": usage.cached_tokens,
        "cache_write_mtok": usage.cache_write_tokens,
        "input_audio_mtok": usage.input_audio_tokens,
        "output_audio_mtok": usage.output_audio_tokens,
    }
    for key, tokens in used.items():
        if tokens and _names(found.model_price, key) and not any(_names(prices, key) for prices in variants):
            raise _NoPrice(f"no price for {what}: {key} is not named")


def _names(prices: ModelPrice, key: str) -> bool:
    return getattr(prices, key) is not None


def _nano(dollars: Decimal) -> int:
    nano = int((dollars * _NANO_PER_DOLLAR).to_integral_value(ROUND_HALF_EVEN))
    if not 0 <= nano <= MOST:
        raise _NoPrice("no price: the cost is beyond all sense")
    return nano


def _dollars(name: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise TypeError(
            f"Price({name}={value!r}): the price is a {type(value).__name__}; write dollars per million tokens as a "
            f'string, such as Price({name}="2.50"), an int or a Decimal'
        )
    try:
        dollars = Decimal(value)
    except InvalidOperation:
        dollars = Decimal("NaN")
    if not dollars.is_finite() or dollars < 0:
        raise ValueError(
            f"Price({name}={value!r}): not an amount of dollars per million tokens; write it as a string, such as "
            f'Price({name}="2.50")'
        )
    return dollars

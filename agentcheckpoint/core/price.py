"""Your own price of a model."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from pydantic import Field

from agentcheckpoint.core.amounts import Dollars, exact_dollars
from agentcheckpoint.core.models import Record, Usage
from agentcheckpoint.core.quote import STANDARD_TIERS, TOKENS_PER_PRICE, NoPrice, Quote

_NO_CALLS: Mapping[str, Dollars] = MappingProxyType({})


class Price(Record):
    """Your own price of a model, in US dollars per million tokens.

    Kinds of tokens without a price of their own cost what the input or output costs that they lie in.

    Args:
        input: a million input tokens, such as ``"2.50"``.
        output: a million output tokens, reasoning included.
        cached: a million input tokens read from the provider's cache.
        cache_write: a million input tokens written to that cache.
        cache_write_long: a million of those that are kept for longer; the price of ``cache_write`` if ``None``.
        input_audio: a million audio tokens of the input; cached ones cost ``cached``, where that is named.
        output_audio: a million audio tokens of the output.
        input_image: a million image tokens of the input; cached ones cost ``cached``, where that is named.
        output_image: a million image tokens of the output.
        per_call: dollars for one call of a hosted tool, such as ``{"web_search": "0.01"}``.
        tiers: prices of service tiers, such as ``{"flex": Price(...)}``. If you name none, your price holds for every
            tier; if you name some, the cost in any other that is not the standard one is unknown.
        above: prices of attempts with more input tokens than a number, such as ``{200_000: Price(...)}``.

    Raises:
        TypeError: a float, which is not the number you wrote; write it as a string.
        ValueError: not a number, not finite, or negative.
    """

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_long: Decimal | None = None
    input_audio: Decimal | None = None
    output_audio: Decimal | None = None
    input_image: Decimal | None = None
    output_image: Decimal | None = None
    per_call: Mapping[str, Decimal] = Field(default_factory=dict[str, Decimal])
    tiers: Mapping[str, Price] = Field(default_factory=dict[str, "Price"])
    above: Mapping[int, Price] = Field(default_factory=dict[int, "Price"])

    def __init__(
        self,
        *,
        input: Dollars,
        output: Dollars,
        cached: Dollars | None = None,
        cache_write: Dollars | None = None,
        cache_write_long: Dollars | None = None,
        input_audio: Dollars | None = None,
        output_audio: Dollars | None = None,
        input_image: Dollars | None = None,
        output_image: Dollars | None = None,
        per_call: Mapping[str, Dollars] = _NO_CALLS,
        tiers: Mapping[str, Price] = MappingProxyType({}),
        above: Mapping[int, Price] = MappingProxyType({}),
    ) -> None:
        prices = {
            "input": input,
            "output": output,
            "cached": cached,
            "cache_write": cache_write,
            "cache_write_long": cache_write_long,
            "input_audio": input_audio,
            "output_audio": output_audio,
            "input_image": input_image,
            "output_image": output_image,
        }
        given: dict[str, object] = {name: _exact(name, value) for name, value in prices.items() if value is not None}
        given["per_call"] = {kind: _exact(f"per_call[{kind!r}]", value) for kind, value in per_call.items()}
        # JSON has no numbers as keys
        given |= {"tiers": dict(tiers), "above": {int(tokens): price for tokens, price in above.items()}}
        super().__init__(**given)

    def quote(self, usage: Usage, tier: str | None, name: str) -> Quote:
        """What an attempt costs by this price.

        Args:
            usage: tokens and hosted tools.
            tier: the service tier in the response.
            name: the name that found this price in its table.

        Raises:
            NoPrice: the tier is not among those that are named, or the tokens contradict one another.
        """
        price, words = self, [name]
        if tier is not None and tier in price.tiers:
            price, words = price.tiers[tier], [*words, tier]
        elif price.tiers and tier not in STANDARD_TIERS:
            raise NoPrice(f"no price for tier {tier} of model {name}: your table does not name it")
        if passed := [tokens for tokens in price.above if usage.input_tokens > tokens]:
            price, words = price.above[max(passed)], [*words, f"above {max(passed)}"]
        calls = {**self.per_call, **price.per_call}
        priced = sum((calls[kind] * n for kind, n in usage.hosted_tools.items() if kind in calls), Decimal(0))
        unpriced = {kind: n for kind, n in usage.hosted_tools.items() if kind not in calls}
        tokens = (price._input(usage) + price._output(usage)) / TOKENS_PER_PRICE
        return Quote(tokens + priced, f"table ({', '.join(words)})", unpriced)

    def _input(self, usage: Usage) -> Decimal:
        """Millionths of dollars: each kind with a price of its own by that, the rest of the input by its."""
        short, long = usage.cache_write_tokens - usage.cache_write_long_tokens, usage.cache_write_long_tokens
        is_cheap = self.cached is not None  # then cached audio and images are priced as cached
        heard = usage.input_audio_tokens - (usage.cached_audio_tokens if is_cheap else 0)
        seen = usage.input_image_tokens - (usage.cached_image_tokens if is_cheap else 0)
        if usage.cached_tokens + usage.cache_write_tokens > usage.input_tokens:
            raise NoPrice("no price: more cached and cache-write tokens than input tokens")
        written_long = self.cache_write if self.cache_write_long is None else self.cache_write_long
        return _sum(
            usage.input_tokens,
            self.input,
            (usage.cached_tokens, self.cached),
            (short, self.cache_write),
            (long, written_long),
            (heard, self.input_audio),
            (seen, self.input_image),
        )

    def _output(self, usage: Usage) -> Decimal:
        return _sum(
            usage.output_tokens,
            self.output,
            (usage.output_audio_tokens, self.output_audio),
            (usage.output_image_tokens, self.output_image),
        )


def _sum(whole: int, price: Decimal, *parts: tuple[int, Decimal | None]) -> Decimal:
    own = [(tokens, own) for tokens, own in parts if own is not None]
    rest = whole - sum(tokens for tokens, _ in own)
    if rest < 0 or any(tokens < 0 for tokens, _ in own):
        raise NoPrice("no price: the kinds of tokens are more than their whole")
    return sum((tokens * each for tokens, each in own), rest * price)


def _exact(name: str, value: object) -> Decimal:
    return exact_dollars(value, f"Price({name}=...)")

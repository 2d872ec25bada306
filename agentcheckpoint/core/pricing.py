"""What an attempt cost: usage x price, exact, in whole nano-dollars. What has no sure price is unknown, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from types import MappingProxyType

from agentcheckpoint.core.amounts import EXACT, NANO_PER_DOLLAR
from agentcheckpoint.core.models import MOST, LedgerEntry, Usage
from agentcheckpoint.core.price import Price as Price
from agentcheckpoint.core.published import published_price
from agentcheckpoint.core.quote import NoPrice, Quote
from agentcheckpoint.core.usage import Measured

_LONGEST_REASON = 300
_NO_PRICES: Mapping[str, Price] = MappingProxyType({})
_FROM_TABLE = "table ("
_REPRICED = "repriced: "


@dataclass(frozen=True)
class Cost:
    """What an attempt cost.

    Attributes:
        nano: nano-dollars; ``None``: unknown, which is not 0.
        source: where the price came from, or why there is none.
    """

    nano: int | None
    source: str


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
    """Price one attempt, from the caller's table, else from the genai-prices package.

    Args:
        usage: tokens and hosted tools; ``None``: unmeasured.
        model: the model as served; the table is looked up by exactly this name, and then by ``asked``.
        asked: the model as asked for, such as an alias of a dated one.
        provider: the provider's id in genai-prices, such as ``"openai"``; ``None``: a server that nobody knows.
        tier: the service tier in the response, or ``"batch"``.
        at_ms: when the request was sent, milliseconds since the epoch: prices change.
        table: the caller's own prices by model.

    Returns:
        The cost, rounded half-even once. A hosted tool that has no price makes the whole unknown; the source then
        says what the rest costs. Nothing is raised: what is priced here was paid for.
    """
    if usage is None:
        return Cost(None, "unmeasured")
    try:
        with localcontext(EXACT):
            own = next((name for name in (model, asked) if name is not None and name in table), None)
            if own is not None:
                quote = table[own].quote(usage, tier, own)
            else:
                quote = published_price(usage, model or asked, provider, tier, at_ms)
            return _cost(quote)
    except NoPrice as reason:
        return Cost(None, str(reason)[:_LONGEST_REASON])
    except Exception as error:
        return Cost(None, f"no price for model {model}: {type(error).__name__}: {error}"[:_LONGEST_REASON])


def priced(entry: LedgerEntry, said: Measured, table: Mapping[str, Price]) -> LedgerEntry:
    """The entry of an attempt with what its answer says of itself, and what that costs."""
    cost = price_usage(
        said.usage,
        model=said.served,
        asked=entry.model,
        provider=entry.provider,
        tier=said.tier,
        at_ms=entry.at,
        table=table,
    )
    said_of = {"served": said.served, "tier": said.tier, "usage": said.usage}
    return entry.model_copy(update={**said_of, "cost": cost.nano, "price": cost.source})


def reprice(entry: LedgerEntry, *, table: Mapping[str, Price] = _NO_PRICES, provider: str | None = None) -> LedgerEntry:
    """Price a recorded attempt again: by a new table, or by the list of prices that is installed now.

    Args:
        entry: as it was recorded; it stays as it is.
        table: your own prices by model; they come first.
        provider: whose published prices apply, where the entry does not say it.

    Returns:
        A copy with the new cost, whose ``price`` begins with ``repriced:``; the entry itself where nothing is to be
        priced, where no price is known now, and where a cost by your own table would give way to a published one.
    """
    if entry.bill == "not_billed" or entry.usage is None:
        return entry
    known = entry if entry.provider else entry.model_copy(update={"provider": provider})
    again = priced(known, Measured(entry.usage, entry.served, entry.tier), table)
    is_own = entry.cost is not None and (entry.price or "").removeprefix(_REPRICED).startswith(_FROM_TABLE)
    if again.cost is None or again.cost == entry.cost or (is_own and not str(again.price).startswith(_FROM_TABLE)):
        return entry
    return again.model_copy(update={"price": f"{_REPRICED}{again.price}"})


def _cost(quote: Quote) -> Cost:
    nano = int((quote.dollars * NANO_PER_DOLLAR).to_integral_value(ROUND_HALF_EVEN))
    if not 0 <= nano <= MOST:
        raise NoPrice("no price: the cost is beyond all sense")
    if quote.unpriced:
        calls = ", ".join(f"{kind} (x{calls})" for kind, calls in quote.unpriced.items())
        rest = f"{Decimal(nano) / NANO_PER_DOLLAR:f}"
        raise NoPrice(f"no price for hosted tools: {calls}; the rest costs ${rest} by {quote.source}")
    return Cost(nano, quote.source)

"""What a list of prices says of one attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

STANDARD_TIERS = frozenset({None, "auto", "default", "on_demand", "standard"})
"""Service tiers that cost the plain price."""

TOKENS_PER_PRICE = 10**6


class NoPrice(Exception):
    """There is no sure price; the message says why."""


@dataclass(frozen=True)
class Quote:
    """The price of an attempt.

    Attributes:
        dollars: what was priced, exact.
        source: where the price came from.
        unpriced: calls of hosted tools that have no price, by kind: the dollars are not the whole.
    """

    dollars: Decimal
    source: str
    unpriced: Mapping[str, int]

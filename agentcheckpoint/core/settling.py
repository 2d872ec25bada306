"""What is said of an unresolved attempt afterwards: by hand, or by the provider's bill. And prices set anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Literal, TypeAlias

from agentcheckpoint.core.amounts import EXACT, NANO_PER_DOLLAR
from agentcheckpoint.core.models import MOST, LedgerEntry, Usage
from agentcheckpoint.core.price import Price
from agentcheckpoint.core.pricing import priced, reprice
from agentcheckpoint.core.usage import Measured

Source: TypeAlias = Literal["by hand", "the provider's bill"]
_SAID = ("by hand", "the provider's bill")


@dataclass(frozen=True, slots=True)
class Said:
    """What is known of an attempt now: what it cost in nano-dollars, or what it used; neither: it was not billed."""

    nano: int | None = None
    usage: Usage | None = None
    is_wasted: bool = True


def settled(entry: LedgerEntry, said: Said, source: Source, prices: Mapping[str, Price]) -> LedgerEntry:
    """The entry of an attempt, as it counts from now on. Its ``price`` begins with who said so."""
    if said.nano is None and said.usage is None:
        return entry.model_copy(update={"bill": "not_billed", "cost": None, "price": source})
    bill = "wasted" if said.is_wasted else "paid"
    if said.nano is not None:
        return entry.model_copy(update={"bill": bill, "cost": said.nano, "price": source})
    known = priced(entry, Measured(said.usage, entry.served, entry.tier), prices)
    return known.model_copy(update={"bill": bill, "price": f"{source}: {known.price}"})


def is_said(entry: LedgerEntry) -> bool:
    """Whether the entry was settled so."""
    return (entry.price or "").startswith(_SAID)


def nearest_nano(dollars: Decimal) -> int:
    """Nano-dollars of an amount that may be finer, rounded half-even.

    Raises:
        ValueError: it is beyond all sense.
    """
    with localcontext(EXACT):
        nano = int((dollars * NANO_PER_DOLLAR).to_integral_value(ROUND_HALF_EVEN))
    if not 0 <= nano <= MOST:
        raise ValueError(f"{dollars} dollars is beyond all sense")
    return nano


def priced_anew(entry: LedgerEntry, table: Mapping[str, Price]) -> LedgerEntry:
    """The entry by a table of prices: where its cost was unknown, or the table names its model.

    What somebody has said it cost stays so.
    """
    in_table = any(model in table for model in (entry.served, entry.model) if model is not None)
    cost_was_said = is_said(entry) and ":" not in str(entry.price)
    if not table or cost_was_said or (entry.cost is not None and not in_table):
        return entry
    return reprice(entry, table=table)

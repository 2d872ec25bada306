"""Recorded attempts priced again: a cost where there was none, and never a cost or a record lost."""

from __future__ import annotations

from datetime import UTC, datetime

import genai_prices
import pytest

from agentcheckpoint.core.ledger import fold_entries, report
from agentcheckpoint.core.models import LedgerEntry, Usage
from agentcheckpoint.core.pricing import Price, reprice

AT = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) * 1000
USAGE = Usage(input_tokens=1_000, output_tokens=100)
TABLE = {"house-1": Price(input="2", output="8", tiers={"flex": Price(input="1", output="4")})}
UNKNOWN = LedgerEntry(
    id="a1",
    bill="paid",
    slot="ask",
    model="house-1",
    served="house-1-2026",
    usage=USAGE,
    price="no price for model house-1-2026: its server is not a known provider",
    at=AT,
)


def test_a_model_unknown_before_gets_a_cost_in_a_copy_and_the_record_stays_as_it_was() -> None:
    before = UNKNOWN.model_dump_json()
    again = reprice(UNKNOWN, table=TABLE)
    # 1000 x 2 = 2000, 100 x 8 = 800
    assert again == UNKNOWN.model_copy(update={"cost": 2_800_000, "price": "repriced: table (house-1)"})
    assert UNKNOWN.model_dump_json() == before
    sums = report(fold_entries([UNKNOWN, again]))
    assert (sums.paid, sums.unpriced, sums.attempts) == (2_800_000, 0, 1)


def test_the_tier_and_the_day_of_the_attempt_decide() -> None:
    assert reprice(UNKNOWN.model_copy(update={"tier": "flex"}), table=TABLE).cost == 1_400_000
    o3 = UNKNOWN.model_copy(update={"model": "o3", "served": "o3-2025-04-16", "provider": "openai"})
    old = o3.model_copy(update={"at": int(datetime(2025, 5, 1, tzinfo=UTC).timestamp()) * 1000})
    # 1000 x 10 = 10000, 100 x 40 = 4000 then; 1000 x 2 = 2000, 100 x 8 = 800 now
    assert [reprice(old).cost, reprice(o3).cost] == [14_000_000, 2_800_000]
    assert reprice(old).price == f"repriced: genai-prices {genai_prices.__version__} (openai:o3)"


def test_a_hosted_tool_that_had_no_price_is_priced_by_a_table_that_names_it() -> None:
    drew = UNKNOWN.model_copy(update={"usage": USAGE.model_copy(update={"hosted_tools": {"image_generation": 2}})})
    assert reprice(drew, table=TABLE) is drew
    named = {"house-1": Price(input="2", output="8", per_call={"image_generation": "0.04"})}
    assert reprice(drew, table=named).cost == 82_800_000


def test_an_older_entry_does_not_say_whose_prices_apply_so_you_may() -> None:
    entry = UNKNOWN.model_copy(update={"model": "gpt-5", "served": "gpt-5-2025-08-07"})
    assert reprice(entry) is entry
    again = reprice(entry, provider="openai")
    # 1000 x 1.25 = 1250, 100 x 10 = 1000
    assert (again.cost, again.provider) == (2_250_000, "openai")
    assert reprice(entry.model_copy(update={"provider": "nobody"}), provider="openai").cost is None


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ({"cost": 5, "price": "table (house-1)"}, {}),  # nothing known now: the cost stays
        ({"cost": 5, "price": "genai-prices 0.1 (openai:gpt-4)"}, {}),
        ({"usage": None, "price": "unmeasured"}, TABLE),
        ({"bill": "not_billed", "price": "HTTP 429"}, TABLE),
        ({"cost": 2_800_000, "price": "table (house-1)"}, TABLE),  # the same cost
        # your own price is not given up for a published one
        ({"cost": 5, "price": "table (gpt-5)", "model": "gpt-5", "served": "gpt-5", "provider": "openai"}, {}),
        (
            {"cost": 5, "price": "repriced: table (gpt-5)", "model": "gpt-5", "served": "gpt-5", "provider": "openai"},
            {},
        ),
    ],
)
def test_what_cannot_be_priced_better_is_returned_as_it_is(change: dict[str, object], table: dict[str, Price]) -> None:
    entry = UNKNOWN.model_copy(update=change)
    assert reprice(entry, table=table) is entry


def test_a_cost_by_your_old_table_gives_way_to_your_new_one_and_a_published_one_to_either() -> None:
    old = UNKNOWN.model_copy(update={"cost": 5, "price": "table (house-1)"})
    assert reprice(old, table=TABLE).cost == 2_800_000
    listed = UNKNOWN.model_copy(
        update={"model": "gpt-5", "served": "gpt-5", "provider": "openai", "cost": 5, "price": "genai-prices 0.1 (x)"}
    )
    assert reprice(listed).cost == 2_250_000
    assert reprice(listed, table={"gpt-5": Price(input=1, output=1)}).cost == 1_100_000

"""Workers are stopped past their lease, and go on when heirs have their runs: they neither write nor buy any more."""

from __future__ import annotations

import pytest
from faults import pauses
from faults.broken.callers import VARIANTS
from faults.variants import Variant

SEED = 20261124
BUDGET = 72
CONTROL = 24
"""How many scenarios have to show that a broken library is caught."""
BROKEN = [variant for variant in VARIANTS if variant.engine == pauses.ENGINE]


def test_a_worker_that_was_paused_past_its_lease_neither_writes_nor_pays_any_more() -> None:
    tally = pauses.search(BUDGET, SEED)
    assert [str(violation) for violation in tally.violations] == []
    assert tally.scenarios == BUDGET
    assert tally.fired >= BUDGET * 0.8
    assert all(tally.notes[extent] >= 10 for extent in pauses.EXTENTS)


@pytest.mark.parametrize("variant", BROKEN, ids=lambda variant: variant.name)
def test_a_broken_library_is_caught(variant: Variant) -> None:
    assert pauses.search(CONTROL, SEED, variant).violations

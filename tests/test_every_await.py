"""Async agents are cancelled at every await, once and three times in a row; each then finishes without paying twice."""

from __future__ import annotations

import pytest
from faults import awaits
from faults.async_agents import AGENTS
from faults.broken.callers import VARIANTS
from faults.variants import Variant

TAIL = 12
"""An agent does not wait equally often each time: so many of the last places may not be reached."""
BROKEN = [variant for variant in VARIANTS if variant.engine == awaits.ENGINE]


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_can_be_cancelled_at_every_await(agent: str) -> None:
    tally = awaits.search(20261124, [agent])
    assert [str(violation) for violation in tally.violations] == []
    assert tally.scenarios == 2 * tally.notes[f"awaits of {agent!r}"] >= 80
    assert tally.fired >= tally.scenarios - TAIL


@pytest.mark.parametrize("variant", BROKEN, ids=lambda variant: variant.name)
def test_a_broken_library_is_caught(variant: Variant) -> None:
    with variant.broken():
        assert awaits.search(20261124, ["steps"], until_caught=True).violations

"""Blocking agents are interrupted before and after every packet and payment; none pays twice for what is recorded."""

from __future__ import annotations

import pytest
from faults import interrupts
from faults.blocking_agents import AGENTS
from faults.broken.callers import VARIANTS
from faults.variants import Variant

BROKEN = [variant for variant in VARIANTS if variant.engine == interrupts.ENGINE]


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_can_be_interrupted_around_every_packet_and_payment(agent: str) -> None:
    tally = interrupts.search(20261124, [agent])
    assert [str(violation) for violation in tally.violations] == []
    assert tally.fired == tally.scenarios >= 2 * tally.notes[f"places of {agent!r}"] >= 50


@pytest.mark.parametrize("variant", BROKEN, ids=lambda variant: variant.name)
def test_a_broken_library_is_caught(variant: Variant) -> None:
    with variant.broken():
        assert interrupts.search(20261124, ["steps"], until_caught=True).violations

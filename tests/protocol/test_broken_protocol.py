"""Negative controls: the protocol with one rule left out. A search that does not notice proves nothing."""

from __future__ import annotations

import pytest
from faults.broken.protocol import VARIANTS
from faults.model import caught
from faults.variants import Variant


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_protocol_without_one_of_its_rules_is_caught(variant: Variant) -> None:
    assert caught(variant), f"{variant.engine} does not notice that {variant.name} (rule {variant.rule})"

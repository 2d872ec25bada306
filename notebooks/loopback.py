"""The model that these notebooks call: one that answers on this machine for play money, or the real one."""

from __future__ import annotations

import os
from pathlib import Path

from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.testing import Answer, Provider

PRICES = {"demo-small": ac.Price(input="0.15", cached="0.015", output="0.60")}


def answer(request) -> Answer:
    """What the play model says: as much as it is asked, in other words."""
    asked = str(request.messages[-1]["content"])
    return Answer(text=f"{asked.rstrip('?.')}: that is so, and for a reason.")


def model(use_real: bool) -> tuple[OpenAI, str]:
    """A client whose calls are checkpointed, and the model's name.

    Args:
        use_real: call the endpoint of ``$OPENAI_BASE_URL`` with ``$OPENAI_API_KEY``, and pay for it.
    """
    if use_real:
        return ac.wrap(OpenAI()), os.environ.get("OPENAI_MODEL", "gpt-5-mini")
    journal = os.environ.get("NOTEBOOK_JOURNAL")  # where it notes what it was paid, if somebody asks
    provider = Provider(answer, journal=None if journal is None else Path(journal))
    return ac.wrap(OpenAI(base_url=provider.url, api_key="none"), prices=PRICES), "demo-small"

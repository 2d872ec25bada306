"""The world outside of a run: what agents pay there, noted as it happens, and a model that answers on loopback."""

from __future__ import annotations

import gc
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import agentcheckpoint as ac
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.testing.brain import Answer, Request
from agentcheckpoint.testing.provider import Provider

PRICES = {"m": ac.Price(input="1", output="1"), "demo-large": ac.Price(input="2.5", output="10", cached="0.25")}
MODEL = "demo-large"
DRAFT = "draft"
"""A question whose first answer is no good."""


@dataclass(slots=True)
class World:
    """What one run's agents paid with functions of their own, and how far they came.

    Attributes:
        url: the store.
        client: a wrapped OpenAI client, of either colour.
        run_id: the run that they work on.
        paid: the slots that were paid for, in order.
        attempt: the attempt of the last life.
        entered, left: whether its ``with`` was entered, and its body run to the end.
        output: what the last life that came to its end has returned.
    """

    url: str
    client: Any
    run_id: str
    paid: list[str] = field(default_factory=list[str])
    attempt: Any = None
    entered: bool = False
    left: bool = False
    output: object = None

    def buy(self, slot: str) -> dict[str, Any]:
        """Work that costs something, and cannot be undone. What it says of itself depends on the slot alone."""
        self.paid.append(slot)
        return bought(slot)


def bought(slot: str) -> dict[str, Any]:
    """What such work returns."""
    return {"answer": slot, "model": "m", "usage": {"input_tokens": 1000, "output_tokens": 0}}


class Fickle:
    """A brain that repeats the last message, but whose first answer to a draft is bad."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request, /) -> Answer:
        said = str(request.messages[-1]["content"])
        with self._lock:
            self._asked[said] += 1
            return Answer(text="bad" if said.startswith(DRAFT) and self._asked[said] == 1 else said)


@contextmanager
def stage() -> Iterator[tuple[str, Provider]]:
    """A store and a provider for agents that live in this process."""
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings(), Provider(Fickle()) as provider:
        warnings.simplefilter("ignore", ac.DurabilityWarning)
        url = ensure_server(Path(home)).url
        ac.connect(url)
        gc.collect()
        gc.freeze()  # so that the collections after each scenario have little to look at
        try:
            yield url, provider
        finally:
            gc.unfreeze()
            stop_server(Path(home))

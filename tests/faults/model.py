"""The engine "model": searches for a course of events after which something is lost, doubled, or a stale worker's."""

from __future__ import annotations

from . import rollback
from .model_machine import Model
from .model_search import first_caught, play
from .model_watched import watched
from .tally import Tally
from .variants import Variant


class WatchedModel(Model):
    """The same on the slow second implementation."""

    commit_through = staticmethod(watched)


def search(
    examples: int, number: int = 0, url: str | None = None, *, shrink: bool = False, second: bool = False
) -> Tally:
    """Plays about so many examples: three workers, their commits side by side, and a network that does it all.

    Args:
        number, url, shrink: as in ``model_search.play``.
        second: play on the slow second implementation.
    """
    return play("model", WatchedModel if second else Model, examples, number, url, shrink=shrink)


def replay(seed: str) -> Tally:
    """Plays again what a violation's seed names, and makes it as short as can be."""
    number, _, examples = seed.partition("x")
    return search(int(examples), int(number), shrink=True)


def caught(variant: Variant) -> str | None:
    """What the variant's engine, this one or "rollback", says of the library broken in that way; ``None``: nothing."""
    return first_caught(rollback.search if variant.engine == "rollback" else search, variant)

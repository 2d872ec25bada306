"""Negative controls: the library broken on purpose, one rule at a time. A search that misses one is no proof."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .agents import Agent
    from .scenario import Fault
    from .settling import Clean

Single: TypeAlias = Callable[["Agent", "Fault", "Clean"], bool]
"""Whether a fault may show it, at which that agent is struck; and what the agent does without one."""


def doing(kind: str, fate: str) -> Single:
    """Faults of that fate, of agents that do such a thing."""
    return lambda agent, fault, _: fault.fate == fate and agent.does(kind)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to break the library.

    Attributes:
        name: what is broken, in a few words with dashes.
        rule: the rule of ``docs/protocol.md`` (or another promise) that it breaks.
        engine: the search that has to catch it.
        broken: while this is entered, the library is broken in this process (and in what it forks).
        aim: where its engine is to look for it, if not in all that it draws: of the grid, single faults (``Single``);
            of the pauses, agents; of the servers' deaths, the scenario of that seed; of the corruption, ``Damage``.
        says: words of the judge by which it has to be caught.
    """

    name: str
    rule: str
    engine: str
    broken: Callable[[], AbstractContextManager[None]]
    aim: Any = None
    says: str = ""

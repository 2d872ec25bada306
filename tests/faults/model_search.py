"""Plays a state machine a number of times, the same way for the same number, and counts what it came to."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from agentcheckpoint.errors import AgentCheckpointError, AgentCheckpointWarning
from agentcheckpoint.store.dial import Dial, dial_url

from .model_courses import Courses
from .tally import Tally, Violation
from .variants import Variant

STEPS = 60
"""How many rules one example plays."""
CONTROL = (200, 3)
"""So many examples, so many times, may a search take to notice a variant."""


def play(
    engine: str, machine: type[Courses], examples: int, number: int, url: str | None = None, *, shrink: bool = False
) -> Tally:
    """Plays about so many examples.

    Args:
        number: the same number plays the same examples.
        url: of the server to play on; each example has a run of its own there. Default: one in memory for each.
        shrink: what violates is made as short as can be, which may take minutes.
    """
    reached: Counter[str] = Counter()
    members: dict[str, Any] = {"reached": reached}
    if url is not None:
        members["dial"] = staticmethod(_dialing(url))
    played = seed(number)(type(machine.__name__, (machine,), members))
    tally = Tally()
    with warnings.catch_warnings():
        warnings.simplefilter("error", AgentCheckpointWarning)
        warnings.filterwarnings("ignore", machine.tolerated, AgentCheckpointWarning)
        try:
            run_state_machine_as_test(played, settings=_settings(examples, shrink))
        except (AssertionError, AgentCheckpointError, AgentCheckpointWarning) as exc:
            tally.violations.append(Violation(engine, f"{number}x{examples}", _story(exc)))
    tally.scenarios = reached["examples"]
    tally.fired = reached["examples with faults"]
    tally.notes = dict(reached)
    return tally


def first_caught(search: Callable[[int, int], Tally], variant: Variant) -> str | None:
    """What a search says of the library broken in that way; ``None``: it notices nothing."""
    examples, times = CONTROL
    with variant.broken():
        for number in range(1, times + 1):
            for violation in search(examples, number).violations:
                return f"{violation.seed}: {violation.what.splitlines()[0]}"
    return None


def _dialing(url: str) -> Callable[[], Dial]:
    return lambda: dial_url(url)


def _story(exc: BaseException) -> str:
    """What was wrong, where it was noticed, and what had been played."""
    where = traceback.extract_tb(exc.__traceback__)[-1]
    return "\n".join((f"{type(exc).__name__}: {exc} ({where.name})", *getattr(exc, "__notes__", ())))


def _settings(examples: int, shrink: bool) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        database=None,
        report_multiple_bugs=False,
        print_blob=False,
    )

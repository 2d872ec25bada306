"""What tests of agents need: a provider that keeps a journal, crash points, interrupts, seeds, and the crash matrix.

    from agentcheckpoint import testing

    with testing.crash("plan"):
        research.run("r-1", "q")

Names are loaded when they are first used. Under pytest the fixtures ``ac_store``, ``ac_namespace`` and ``ac_provider``
are there as well.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentcheckpoint.testing.asserting import assert_cost_below as assert_cost_below
    from agentcheckpoint.testing.asserting import assert_paid_once as assert_paid_once
    from agentcheckpoint.testing.brain import Answer as Answer
    from agentcheckpoint.testing.brain import scripted as scripted
    from agentcheckpoint.testing.crashing import Crashed as Crashed
    from agentcheckpoint.testing.crashing import crash as crash
    from agentcheckpoint.testing.interrupting import interrupt_after as interrupt_after
    from agentcheckpoint.testing.interrupting import interrupt_during as interrupt_during
    from agentcheckpoint.testing.matrix import Bench as Bench
    from agentcheckpoint.testing.matrix import Case as Case
    from agentcheckpoint.testing.matrix import crash_matrix as crash_matrix
    from agentcheckpoint.testing.provider import Provider as Provider
    from agentcheckpoint.testing.replaying import assert_replays as assert_replays
    from agentcheckpoint.testing.replaying import record as record
    from agentcheckpoint.testing.script import cut_stream as cut_stream
    from agentcheckpoint.testing.script import error as error
    from agentcheckpoint.testing.script import reply as reply
    from agentcheckpoint.testing.script import tool_call as tool_call
    from agentcheckpoint.testing.seeding import seed_run as seed_run

_HOME = {
    "asserting": ("assert_cost_below", "assert_paid_once"),
    "brain": ("Answer", "scripted"),
    "crashing": ("Crashed", "crash"),
    "interrupting": ("interrupt_after", "interrupt_during"),
    "matrix": ("Bench", "Case", "crash_matrix"),
    "provider": ("Provider",),
    "replaying": ("assert_replays", "record"),
    "script": ("cut_stream", "error", "reply", "tool_call"),
    "seeding": ("seed_run",),
}
_WHERE = {public: module for module, names in _HOME.items() for public in names}
__all__ = sorted(_WHERE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

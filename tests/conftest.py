"""Lets a test module import the plain modules beside it, and begins with the longest: no core idles at the end.

No example of Hypothesis's has a deadline: a slow machine is no failure. A run that a test leaves open, as a paused
worker would, is not open for the next test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "protocol")]

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

LONGEST = ("faults", "corruption", "server_deaths", "demo", "typing", "model", "readme")
"""What the modules test that take longest, the longest first."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: at any moment somebody waits for a process, a lease or a clock."""
    return (os.cpu_count() or 1) + 1


def pytest_report_header() -> str:
    """On which servers the tests run."""
    from faults.servers import binaries

    told = (subprocess.run([binary, "--version"], capture_output=True, text=True) for binary in binaries().values())
    return "servers: " + ", ".join(one.stdout.partition(" sha=")[0] for one in told)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the process that hears of all tests
        from parity import Ran, named

        config.pluginmanager.register(Ran(config, named()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        tested = item.path.stem.removeprefix("test_")
        return LONGEST.index(tested) if tested in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(autouse=True)
def runs_of_its_own() -> Iterator[None]:
    yield
    from agentcheckpoint import current

    for attempt in current.open_attempts():
        attempt.open = False  # nobody renews its lease any more
        current.withdraw(attempt)
    current._position.set(None)

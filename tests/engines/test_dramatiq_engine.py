"""Dramatiq's real workers: killed, stopped, and given the same message twice."""

from __future__ import annotations

import re

import pytest
from engine_contract import EngineContract
from engine_life import Engine

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


class TestDramatiq(EngineContract):
    engine = Engine(
        module="dramatiq_agent",
        scheme="unix://",
        command=("dramatiq", "-v", "--processes", "1", "--threads", "1", "dramatiq_agent:broker"),
        ready=re.compile("ready for action"),
        done=re.compile("Completed after"),
        stopping=re.compile("Shutting down"),
    )

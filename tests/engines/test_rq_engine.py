"""RQ's real workers: killed, stopped, and given the same job twice."""

from __future__ import annotations

import re

import pytest
from engine_contract import EngineContract
from engine_life import Engine

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


class TestRQ(EngineContract):
    engine = Engine(
        module="rq_agent",
        scheme="unix://",
        command=("rq.cli", "worker", "--worker-class", "rq_agent.Worker", "--url", "{broker}"),
        ready=re.compile("Listening on"),
        done=re.compile("Successfully completed"),
        stopping=re.compile("warm shut down requested"),
    )

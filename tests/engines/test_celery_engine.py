"""Celery's real workers: killed, stopped, and given the same task twice."""

from __future__ import annotations

import re

import pytest
from engine_contract import EngineContract
from engine_life import Engine

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


class TestCelery(EngineContract):
    engine = Engine(
        module="celery_agent",
        scheme="redis+socket://",
        command=("celery", "--app", "celery_agent", "worker", "--concurrency", "1", "--loglevel", "info"),
        ready=re.compile(r" ready\."),
        done=re.compile(r"Task \S+ succeeded"),
        stopping=re.compile("Warm shutdown"),
    )

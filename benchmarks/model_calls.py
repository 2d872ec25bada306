"""Model calls through a wrapped client and a real provider on loopback."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from pathlib import Path
from typing import Any

from openai import OpenAI

import agentcheckpoint as ac
from agentcheckpoint.demo.agent import research, tools_for
from agentcheckpoint.demo.brain import research_brain
from agentcheckpoint.testing.provider import Provider

from .core import Goal, Row, Scale, compare, whole_time
from .packets import watched
from .servers import server

LATENCY = 0.02
"""Seconds of a model call: a fast one."""
MODEL = "demo-large"
QUESTION = "How is a commit fenced, and what happens to the money of a worker that is fenced off?"
DOCUMENTS = Path(__file__).parent.parent / "docs"
HI: list[Any] = [{"role": "user", "content": "hi"}]


def live_round_trips(scale: Scale) -> Row:
    """The packets of one live call: its intent, and its commit."""
    with (
        Provider() as provider,
        server("no") as url,
        _client(provider) as client,
        ac.run("r", store=url),
        watched() as seen,
    ):
        client.chat.completions.create(model=MODEL, messages=HI)
    count = len(seen)
    return Row("round trips of a live model call: intent and commit", count, Goal("exactly", 2), (count, count), "")


def replayed_requests(scale: Scale) -> Row:
    """What a replayed call asks of the provider."""
    with Provider() as provider, server("no") as url, _client(provider) as client:
        for _ in range(2):
            before = len(provider.requests)
            with ac.run("r", store=url):
                client.chat.completions.create(model=MODEL, messages=HI)
        count = len(provider.requests) - before
    return Row("requests to the provider for a replayed call", count, Goal("exactly", 0), (count, count), "")


def whole_agent(scale: Scale) -> Row:
    """The demo's agent with the library, against the same with ``AGENTCHECKPOINT=off``."""
    numbers = itertools.count()
    with Provider(research_brain(LATENCY)) as provider, server("always") as url, _client(provider) as client:

        def ours() -> None:
            with ac.run(f"research-{next(numbers)}", store=url) as run, contextlib.redirect_stdout(io.StringIO()):
                research(run, client, tools_for(DOCUMENTS), QUESTION)

        def bare() -> None:
            os.environ["AGENTCHECKPOINT"] = "off"
            try:
                ours()
            finally:
                del os.environ["AGENTCHECKPOINT"]

        return compare(
            "the demo's agent with 20 ms model calls / with the library off, fsync always",
            lambda: whole_time(ours),
            lambda: whole_time(bare),
            Goal("at most", 1.02),
            scale.rounds,
        )


def _client(provider: Provider) -> OpenAI:
    return ac.wrap(OpenAI(base_url=provider.url, api_key="bench"))


ROWS = (live_round_trips, replayed_requests, whole_agent)

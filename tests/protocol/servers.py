"""The servers that the contract is tested on: fakeredis, the embedded one, and Debian's Redis."""

from __future__ import annotations

import re
import secrets
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.servers import Server, binaries

from agentcheckpoint.errors import DurabilityWarning
from agentcheckpoint.store.effects import Packet
from agentcheckpoint.store.embedded import ensure_server, stop_server

SERVERS = ("memory", "embedded", "redis")
REAL = [
    pytest.param(binaries().get(name), id=name, marks=pytest.mark.skipif(name not in binaries(), reason=f"no {name}"))
    for name in SERVERS[1:]
]
"""The binaries of real servers, for tests that start and kill their own."""

UNANSWERED = Packet((("BLPOP", "nothing", "600"),))
"""The server answers it when something is pushed to ``nothing``, and not before."""


def waiting(server: Server) -> int:
    """How many clients wait for the answer to such a packet: it has come to the server."""
    return int(re.search(rb"blocked_clients:(\d+)", server.ask("INFO", "clients"))[1])  # type: ignore[index]


def hasten(wire: Any, seconds: float) -> None:
    """From now on a connection of a loop, which is idle, waits only so long for an answer."""
    wire.timeout = seconds
    if wire._watch is not None:  # it was set for the time before
        wire._watch.cancel()
        wire._watch = None


class RedisServer(Server):
    """Debian's, with each commit synced to disk."""

    def __init__(self, directory: Path) -> None:
        super().__init__("redis-server", directory)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on PATH (apt-get install redis-server)")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("embedded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DurabilityWarning)
        yield ensure_server(home).url
    stop_server(home)


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest) -> str:
    """The URL of each server in turn."""
    if request.param == "memory":
        return f"memory://{secrets.token_hex(8)}"
    if request.param == "embedded":
        return str(request.getfixturevalue("embedded_url"))
    return str(request.getfixturevalue("redis_server").url)


@pytest.fixture
def run_id() -> str:
    return f"run-{secrets.token_hex(6)}"

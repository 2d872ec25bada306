"""The servers that the contract is tested on: fakeredis, the embedded one, and Debian's Redis."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from agentcheckpoint.errors import DurabilityWarning
from agentcheckpoint.store.embedded import ensure_server, stop_server

SERVERS = ("memory", "embedded", "redis")


class RedisServer:
    """A ``redis-server`` of its own, with its data on disk: it can die and come back."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = str(directory / "socket")
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", self.socket, "--dir", str(self._directory), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        client = redis.Redis(unix_socket_path=self.socket)
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                return
            except redis.RedisError:
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on PATH (apt-get install redis-server)")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


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

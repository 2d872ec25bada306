"""A store and a provider of their own for each test."""

from __future__ import annotations

import gc
import secrets
from collections.abc import Iterator

import pytest

from agentcheckpoint.openai import streams
from agentcheckpoint.testing.provider import Provider


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(8)}"


@pytest.fixture(autouse=True)
def little_to_collect() -> Iterator[None]:
    """A collection in a test looks at what the test has made, and not at all that is imported: that takes a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine does not read the rest of a stream too late: what is tested of the limit sets one of its own."""
    monkeypatch.setattr(streams, "DRAIN", 60.0)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running

"""A store and a provider of their own for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from agentcheckpoint.testing.provider import Provider


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(8)}"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running

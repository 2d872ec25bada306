"""The pytest plugin: a store, a namespace and a provider for each test. It imports nothing else until one is used."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agentcheckpoint.store.store import Store
    from agentcheckpoint.testing.provider import Provider

_URL = "agentcheckpoint_url"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The server to test on: ``--agentcheckpoint-url``, or ``agentcheckpoint_url`` in the ini file."""
    what = "where the tests' runs are kept; by default each test has a store in memory (needs fakeredis)"
    parser.getgroup("agentcheckpoint").addoption("--agentcheckpoint-url", default=None, metavar="URL", help=what)
    parser.addini(_URL, what, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Says what the marker is for."""
    config.addinivalue_line(
        "markers",
        "crash_matrix(life=..., brain=echo, how='exception', store=None): one case for each side of each commit of "
        "life; see `crash_case`",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives a test with the marker ``crash_matrix`` its cases."""
    marker = metafunc.definition.get_closest_marker("crash_matrix")
    if marker is None:
        return
    if "crash_case" not in metafunc.fixturenames:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: a test with this marker takes the argument crash_case")
    from agentcheckpoint.testing.matrix import crash_matrix

    options = {"store": _url(metafunc.config), **marker.kwargs}
    metafunc.parametrize("crash_case", crash_matrix(*marker.args, **options), ids=str)


def _url(config: pytest.Config) -> str | None:
    """The server that was given."""
    return config.getoption("--agentcheckpoint-url") or config.getini(_URL) or None


@pytest.fixture
def ac_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of this test. Runs that name no store are kept there too."""
    from agentcheckpoint.store.connect import connect

    url = _url(request.config) or f"memory://test-{secrets.token_hex(8)}"
    monkeypatch.setenv("AGENTCHECKPOINT_URL", url)
    monkeypatch.delenv("AGENTCHECKPOINT", raising=False)
    return connect(url)


@pytest.fixture
def ac_namespace() -> str:
    """A namespace for this test alone: its runs meet no others', on whatever server, under xdist too."""
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
def ac_provider(monkeypatch: pytest.MonkeyPatch) -> Generator[Provider]:
    """A provider on loopback, with its journal. ``OpenAI()`` talks to it; unscripted, it repeats what it is asked."""
    from agentcheckpoint.testing.provider import Provider

    with Provider() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        yield provider

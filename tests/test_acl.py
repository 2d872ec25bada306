"""The ACL user of docs/store.md: its commands are those that a run's life takes, and it can lead one."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import redis
from faults.servers import Server
from pages import page
from servers import REAL
from whole_life import ASIDE, SETTINGS, commands_of_a_life, live

import agentcheckpoint as ac
from agentcheckpoint.store.server_binary import find_binary


def documented() -> list[list[str]]:
    """The words of the two lines."""
    text = page("docs/store.md").parts()["acl"].replace("\\\n", "")
    return [line.split() for line in text.splitlines() if line.startswith("ACL SETUSER")]


def allowed(line: list[str]) -> set[str]:
    return {word[1:] for word in line if word.startswith("+")}


def url(room: Path, rest: str = "") -> str:
    return f"unix://{room}/socket{rest}"


def counted(admin: redis.Redis, url: str) -> set[str]:
    used = commands_of_a_life(admin, url)
    if "config" in used:
        pytest.skip("a server before 7.0 does not count subcommands apart")
    return used


@pytest.mark.parametrize("binary", REAL)
def test_a_runs_life_takes_exactly_the_documented_commands(binary: str, tmp_path: Path) -> None:
    needed, settings = map(allowed, documented())
    with Server(binary, tmp_path) as server, server.client() as admin:
        used = counted(admin, url(tmp_path))
    assert used - ASIDE == needed | settings
    assert settings == SETTINGS


@pytest.mark.parametrize("binary", REAL)
def test_a_database_and_a_client_name_take_the_two_commands_that_are_named_beside(binary: str, tmp_path: Path) -> None:
    needed, settings = map(allowed, documented())
    with Server(binary, tmp_path) as server, server.client(db=1) as admin:
        used = counted(admin, url(tmp_path, "?db=1&client_name=worker"))
    also = set(re.findall(r"`\+([\w|]+)`", page("docs/store.md").text))
    assert used - ASIDE - needed - settings == also == {"select", "client|setname"}


@pytest.mark.parametrize("binary", REAL)
def test_the_documented_user_can_lead_a_runs_life(binary: str, tmp_path: Path) -> None:
    with Server(binary, tmp_path) as server, server.client() as admin:
        for line in documented():
            admin.execute_command(*line)
        live(admin, url(tmp_path).replace("unix://", "unix://agentcheckpoint:CHANGE-ME@"))
        refused = {entry["object"] for entry in admin.acl_log()}
    assert refused <= ASIDE


@pytest.mark.parametrize("binary", REAL)
def test_without_the_second_line_the_settings_are_unknown_and_that_is_said(binary: str, tmp_path: Path) -> None:
    with Server(binary, tmp_path) as server, server.client() as admin:
        admin.execute_command(*documented()[0])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ac.DurabilityWarning)
            live(admin, url(tmp_path).replace("unix://", "unix://agentcheckpoint:CHANGE-ME@"))
    assert [str(warning.message).count("is unknown") for warning in said] == [3]


@pytest.mark.parametrize("missing", ["rename", "rpush", "set"])
def test_a_user_who_lacks_a_command_is_told_which(missing: str, tmp_path: Path) -> None:
    with Server(str(find_binary()), tmp_path) as server, server.client() as admin:
        for line in documented():
            admin.execute_command(*line)
        admin.execute_command("ACL", "SETUSER", "agentcheckpoint", f"-{missing}")
        with pytest.raises(ac.StoreError, match=missing), warnings.catch_warnings():
            warnings.simplefilter("ignore", ac.DurabilityWarning)
            live(admin, url(tmp_path).replace("unix://", "unix://agentcheckpoint:CHANGE-ME@"))


def test_the_user_may_touch_no_other_keys(tmp_path: Path) -> None:
    with Server(str(find_binary()), tmp_path) as server, server.client() as admin:
        admin.execute_command(*documented()[0])
        user = redis.Redis(
            unix_socket_path=f"{tmp_path}/socket", username="agentcheckpoint", password="CHANGE-ME", protocol=2
        )
        with user, pytest.raises(redis.exceptions.NoPermissionError):
            user.set("mine", "1")

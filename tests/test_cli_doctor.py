"""``agentcheckpoint doctor``: each fact of a real server, what may not be looked at, and the exit code."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from faults.servers import Server, binaries
from memory_runs import ask
from test_health import GOOD_CONFIG, GOOD_INFO
from typer.testing import CliRunner

import agentcheckpoint as ac
from agentcheckpoint.cli.main import app
from agentcheckpoint.core.published import newest_price
from agentcheckpoint.store.checkup import Told, server_facts
from agentcheckpoint.store.health import assess

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

COUNT = itertools.count()
Facts = dict[str, tuple[str, str]]
"""Of each fact its value and verdict."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def admin(room: Path) -> Iterator[redis.Redis]:
    known = binaries()
    with Server(known.get("redis", known["embedded"]), room) as server, server.client() as admin:
        admin.config_set("appendonly", "yes")
        admin.config_set("appendfsync", "always")
        yield admin


@pytest.fixture
def asked(room: Path, admin: redis.Redis) -> Callable[..., tuple[int, Facts, str]]:
    """The exit code, facts, and what they mean, all together; each time by a URL that is not known yet."""

    def ask_doctor(*options: str, user: str = "") -> tuple[int, Facts, str]:
        who = f"{user}:secret@" if user else ""
        url = f"unix://{who}{room}/socket?client_name=d{next(COUNT)}"
        ran = CliRunner().invoke(app, ["doctor", "--store", url, "-o", "json", *options])
        data: dict[str, Any] = json.loads(ran.stdout)
        assert "secret" not in ran.output
        assert data["weakened"] is bool(ran.exit_code)
        facts = {fact["about"]: (fact["value"], fact["verdict"]) for fact in data["facts"]}
        return ran.exit_code, facts, " ".join(fact["means"] for fact in data["facts"])

    return ask_doctor


def test_a_server_that_keeps_the_promise_is_exit_code_0(asked: Any, admin: redis.Redis) -> None:
    code, facts, _ = asked("--strict")
    assert code == 0
    assert facts["persistence"] == ("appended to a file, synced at each commit", "ok")
    assert facts["eviction"] == ("noeviction", "ok") and facts["role"] == ("primary", "ok")
    assert facts["replicas"] == ("none", "note") and facts["user"] == ("default", "note")
    assert facts["transport"] == ("a socket on this machine", "ok") and facts["schema"][1] == "ok"
    assert facts["clock"][1] == "ok" and facts["clock"][0].endswith(("1", "2", "3", "4", "5", "6", "7", "8", "9", "0"))
    assert facts["server"][0].startswith(("Redis ", "Valkey ")) and facts["prices"][0].startswith("genai-prices 0.")


@pytest.mark.parametrize(
    ("setting", "value", "about", "verdict", "says"),
    [
        ("appendfsync", "everysec", "persistence", "weak", "about the last second"),
        ("appendonly", "no", "persistence", "weak", "snapshots"),
        ("maxmemory-policy", "allkeys-lru", "eviction", "note", "with a limit it could evict"),
    ],
)
def test_a_weaker_setting_is_told_with_what_it_means(
    setting: str, value: str, about: str, verdict: str, says: str, asked: Any, admin: redis.Redis
) -> None:
    before = admin.config_get(setting)[setting]
    admin.config_set(setting, value)
    if setting == "appendonly":
        admin.config_set("save", "3600 1")
    try:
        code, facts, means = asked()
    finally:
        admin.config_set(setting, before)
    assert (facts[about][1], code) == (verdict, int(verdict == "weak")) and says in means


def test_a_server_that_evicts_any_key_is_looked_at_and_called_weak(asked: Any, admin: redis.Redis) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.config_set("maxmemory", "1gb")
    try:
        code, facts, means = asked()
    finally:
        admin.config_set("maxmemory", "0")
        admin.config_set("maxmemory-policy", "noeviction")
    assert code == 1 and facts["eviction"] == ("allkeys-lru", "weak") and "vanish silently" in means


def test_a_server_that_is_too_old_is_named(room: Path, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcheckpoint.store.health.OLDEST", (99, 0))
    ran = CliRunner().invoke(app, ["doctor", "--store", f"unix://{room}/socket?client_name=d{next(COUNT)}"])
    assert isinstance(ran.exception, ac.StoreRefused)
    assert re.search(r"(Redis|Valkey) [\d.]+ is too old", str(ran.exception))


def test_what_a_user_may_not_look_at_is_unknown_and_counts_if_that_is_asked_for(asked: Any, admin: redis.Redis) -> None:
    admin.execute_command(
        "ACL", "SETUSER", "mute", "on", ">secret", "~ac:*", "+@all", "-config", "-info", "-acl", "-time"
    )
    code, facts, _ = asked(user="mute")
    unknown = {about for about, (value, verdict) in facts.items() if (value, verdict) == ("unknown", "unknown")}
    assert unknown == {"server", "persistence", "disk", "eviction", "role", "replicas", "clock", "user"}
    assert code == 0 and asked("--strict", user="mute")[0] == 1


def test_a_run_of_a_newer_version_is_a_weakness(asked: Any, admin: redis.Redis, room: Path) -> None:
    from agentcheckpoint.core.ids import run_tag
    from agentcheckpoint.store.keys import RunKeys

    url = f"unix://{room}/socket"
    with ac.run("newer", store=url, namespace="future"):
        pass
    keys = RunKeys(run_tag("future", "newer"))
    ask(url, "HSET", keys.meta(ask(url, "GET", keys.head).decode()), "schema", "99")
    code, facts, means = asked("--namespace", "future")
    assert code == 1 and facts["schema"] == ("1", "weak") and "newer" in means


def test_memory_keeps_nothing_and_the_text_says_so() -> None:
    ran = CliRunner().invoke(app, ["doctor", "--store", "memory://doctor"])
    assert ran.exit_code == 1
    assert "✗ persistence none\n" in ran.stdout and "nothing survives it" in ran.stdout
    assert "the promise is weakened" in ran.stderr


def facts_of(info: dict[str, str], name: str = "redis://far:6379/0", user: str = "mine", skew: int = 0) -> Facts:
    health = assess(GOOD_INFO | info, GOOD_CONFIG)
    told = Told(GOOD_INFO | info, user, 1_000_000 + skew)
    return {fact.about: (fact.value, fact.verdict) for fact in server_facts(health, told, name, 1_000_000, 3)}


def test_the_facts_that_no_server_here_has() -> None:
    facts = facts_of({"connected_slaves": "2", "aof_last_write_status": "err"}, skew=9_000)
    assert facts["replicas"] == ("2", "note") and facts["disk"] == ("its last write failed", "weak")
    assert facts["clock"] == ("+9000 ms from this machine's, give or take 3", "note")
    assert facts["transport"] == ("no TLS", "note") and facts["user"] == ("mine", "ok")
    assert facts_of({}, "rediss://far:6379/0")["transport"] == ("TLS", "ok")
    assert facts_of({}, "redis://localhost:6379/0")["transport"] == ("loopback", "ok")
    assert facts_of({}, skew=2_003)["clock"][1] == "ok" != facts_of({}, skew=2_004)["clock"][1]


def test_the_age_of_the_prices_is_that_of_the_youngest_price_that_holds() -> None:
    import datetime

    day = datetime.date(2026, 11, 24)
    newest = newest_price(day)
    assert newest is not None and newest <= day
    assert newest_price(datetime.date(1990, 1, 1)) is None

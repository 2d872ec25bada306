"""What a URL may say, and what is never said of it: no secret in a name, an error or a warning, nothing dropped."""

from __future__ import annotations

import re
import sys

import pytest
import redis
from redis.sentinel import Sentinel
from servers import RedisServer

import agentcheckpoint as ac
from agentcheckpoint.store.dial import dial_client, dial_url, masked

SECRET = "hush"
SECRETS = [
    f"redis://:{SECRET}@h:1/0",
    f"redis://me:{SECRET}@h:1/0?client_name=a@b",
    f"redis://h:1/0?password={SECRET}",
    f"redis://h:1/0?username={SECRET}&password={SECRET}",
    f"redis://h:1/0?pass%77ord={SECRET}",
    f"rediss://h:1/0?ssl_password={SECRET}",
    f"unix:///socket?password={SECRET}",
    f"redis://me:a/{SECRET}@h:1/0",
    f"redis://me:a?{SECRET}@h:1/0",
    f"redis://:{SECRET}#a@h:1/0",
    f"redis://[::1:{SECRET}@h",
]


@pytest.mark.parametrize("url", SECRETS)
def test_no_secret_of_a_url_is_shown(url: str) -> None:
    assert SECRET not in masked(url)
    try:
        shown = repr(ac.Store(dial_url(url)))
    except ac.InvalidStore as error:
        shown = str(error)
        assert error.__cause__ is None and error.__suppress_context__
    assert SECRET not in shown


@pytest.mark.parametrize(
    "url", ["nope://h?password=hush", "redis://h/abc?password=hush", "redis://h?password=hush&x=1"]
)
def test_no_secret_of_a_url_that_is_refused_is_shown(url: str) -> None:
    with pytest.raises(ac.InvalidStore) as caught:
        ac.connect(url)
    assert SECRET not in str(caught.value)


def test_no_secret_is_shown_of_a_server_that_is_away_or_weak(redis_server: RedisServer) -> None:
    with pytest.raises(ac.StoreUnavailable) as caught:
        ac.connect(f"redis://localhost:1/0?password={SECRET}")
    assert "localhost:1" in str(caught.value) and SECRET not in str(caught.value)
    client = redis.Redis(unix_socket_path=redis_server.socket)
    client.config_set("requirepass", SECRET)
    try:
        client = redis.Redis(unix_socket_path=redis_server.socket, password=SECRET)
        client.config_set("appendfsync", "everysec")
        with pytest.warns(ac.DurabilityWarning) as seen:
            store = ac.connect(f"{redis_server.url}?password={SECRET}")
        assert SECRET not in str(seen[0].message) + repr(store)
        client.config_set("appendfsync", "always")
    finally:
        client.config_set("requirepass", "")


@pytest.mark.parametrize("url", ["redis://h:1", "redis://h:1/", "redis://h/3?socket_timeout=1&max_connections=2"])
def test_a_url_without_secrets_is_shown_as_it_is(url: str) -> None:
    assert dial_url(url).name == url


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("redis://h/abc", "'abc' is no number of a database"),
        ("redis://h/0/1", "'0/1' is no number"),
        ("redis://h/-1", "'-1' is no number"),
        ("redis://h/0?retries=3", "no option 'retries'"),
        ("redis://h/0?a=1&db=1&b=", "no option 'a', 'b'"),
        ("redis://h/0?ssl_ca_certs=x", "no option 'ssl_ca_certs'"),
    ],
)
def test_a_part_that_means_nothing_is_refused_by_name(url: str, part: str) -> None:
    with pytest.raises(ac.InvalidStore, match=part):
        dial_url(url)


def test_a_client_of_a_sentinel_is_refused_by_the_class_of_its_pool() -> None:
    with pytest.raises(ac.InvalidStore, match="SentinelConnectionPool is not a store"):
        dial_client(Sentinel([("h", 1)]).master_for("m"))


def test_a_store_in_memory_without_fakeredis_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    with pytest.raises(ac.NotInstalled, match=re.escape("pip install 'agentcheckpoint-redis[testing]'")) as missing:
        ac.connect("memory://not-installed")
    assert isinstance(missing.value, ImportError) and "an embedded server is used" in str(missing.value)

"""What can be given as a store: of a user's own client only the address counts; and TLS, in both colours."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio as aioredis
from faults.servers import Server, ServerEnded
from servers import RedisServer

import agentcheckpoint as ac
from agentcheckpoint.store.dial import dial_client, dial_url
from agentcheckpoint.store.effects import Packet, Protocol
from agentcheckpoint.store.store import Store


def ask(*command: Any) -> Protocol[Any]:
    return (yield Packet((command,)))[0]


def in_both_colours(store: Store, *command: Any) -> list[Any]:
    return [store.run(ask(*command)), asyncio.run(store.run_async(ask(*command)))]


@pytest.mark.parametrize("kind", [redis.Redis, aioredis.Redis], ids=["sync", "async"])
def test_a_client_that_decodes_and_speaks_resp3_is_dialled_without_either(kind: Any, redis_server: RedisServer) -> None:
    client = kind(unix_socket_path=redis_server.socket, decode_responses=True, protocol=3, client_name="mine", db=3)
    store = Store(dial_client(client))
    assert in_both_colours(store, "CLIENT", "GETNAME") == [b"mine", b"mine"]
    store.run(ask("HSET", "h", "a", "1"))
    assert in_both_colours(store, "HGETALL", "h") == [[b"a", b"1"]] * 2
    store.run(ask("DEL", "h"))


def test_a_pool_is_as_good_as_its_client(redis_server: RedisServer) -> None:
    pool = redis.ConnectionPool.from_url(redis_server.url)
    assert in_both_colours(Store(dial_client(pool)), "PING") == [b"PONG", b"PONG"]


@pytest.mark.parametrize("thing", [42, {}, object(), None.__class__, b"redis://h"], ids=lambda one: type(one).__name__)
def test_what_is_no_store_is_refused_by_name(thing: Any) -> None:
    with pytest.raises(ac.InvalidStore, match="is not a store"):
        ac.connect(thing)


def test_the_same_client_is_the_same_store(redis_server: RedisServer) -> None:
    client = redis.Redis(unix_socket_path=redis_server.socket)
    store = ac.connect(client)
    assert ac.connect(client) is store and ac.connect(store) is store
    assert ac.connect(client, allow_eviction=True) is not store, "what was allowed once is not allowed for ever"


def test_a_setting_that_one_colour_cannot_keep_is_refused_and_not_dropped() -> None:
    with pytest.raises(ac.InvalidStore, match="ssl_validate_ocsp"):
        dial_client(redis.Redis(ssl=True, ssl_validate_ocsp=True))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a server that takes TLS alone, and its certificate."""
    if shutil.which("redis-server") is None or shutil.which("openssl") is None:
        pytest.skip("redis-server or openssl is not on PATH")
    home = tmp_path_factory.mktemp("tls")
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key", "-out", "certificate"]
    subprocess.run(["openssl", *made.split(), *names], cwd=home, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"tls-port": port, "tls-auth-clients": "no"}
    settings |= {f"tls-{what}-file": str(home / name) for what, name in (("cert", "certificate"), ("key", "key"))}
    try:
        server = Server("redis-server", home, settings)
    except ServerEnded:
        pytest.skip("this redis-server cannot do TLS")
    with server:
        yield port, home / "certificate"


@pytest.mark.parametrize("kind", ["url", "sync client", "async client"])
def test_tls_is_tls_in_both_colours(tls: tuple[int, Path], kind: str) -> None:
    port, certificate = tls
    if kind == "url":
        dial = dial_url(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
    else:
        client = redis.Redis if kind == "sync client" else aioredis.Redis
        dial = dial_client(client(port=port, ssl=True, ssl_ca_certs=str(certificate)))
    assert in_both_colours(Store(dial), "PING") == [b"PONG", b"PONG"]

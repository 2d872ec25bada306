"""TLS, users with just the documented rights, RESP3 and decoded replies: one server, a cluster, Sentinel."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio as aioredis
from faults.clusters import Cluster, free_ports
from faults.sentinels import Watched
from faults.servers import Server, ServerEnded, binaries
from pages import page
from whole_life import ASIDE, live

import agentcheckpoint as ac
from agentcheckpoint.store.server_binary import find_binary

USER, PASSWORD = "agentcheckpoint", "CHANGE-ME"
VALKEY = str(find_binary())


def greet(store: Any) -> None:
    """A run in both colours, made and replayed."""
    name = f"run-{secrets.token_hex(4)}"

    async def on_a_loop() -> None:
        async with ac.run(name, store=store) as run:
            assert await run.step("greet", str.upper, "x") == "X"
            assert await run.step("part", str.lower, "Y") == "y"

    with ac.run(name, store=store) as run:
        assert run.step("greet", str.upper, "x") == "X"
    asyncio.run(on_a_loop())
    assert [step.slot for step in ac.get(name, store=store).steps] == ["greet", "part"]


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate of localhost's, its key, and the certificate of somebody else."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    home = tmp_path_factory.mktemp("certificates")
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    for key, file in (("key", "certificate"), ("other-key", "other")):
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", file]
        subprocess.run(["openssl", *made.split(), *names], cwd=home, check=True, capture_output=True)
    return home


@pytest.fixture(scope="module")
def tls_node(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, int]]:
    """A cluster of one node that takes TLS on one port, and that port."""
    if "redis" not in binaries():
        pytest.skip("redis-server is not on PATH")
    port = free_ports(1)[0]
    files = {"tls-cert-file": "certificate", "tls-key-file": "key", "tls-ca-cert-file": "certificate"}
    settings: dict[str, str | int] = {"tls-port": port, "tls-auth-clients": "no", "tls-cluster": "yes"}
    settings |= {name: str(certificates / file) for name, file in files.items()}
    try:
        made = Cluster(binaries()["redis"], tmp_path_factory.mktemp("tls") / "n", primaries=1, settings=settings)
    except ServerEnded:
        pytest.skip("this redis-server cannot do TLS")
    with made:
        yield made, port


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_a_run_over_tls_with_a_ca_of_ones_own(tls_node: tuple[Cluster, int], certificates: Path, scheme: str) -> None:
    greet(f"{scheme}://localhost:{tls_node[1]}/0?ssl_ca_certs={certificates / 'certificate'}")


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_a_certificate_that_the_ca_has_not_signed_is_not_believed(
    tls_node: tuple[Cluster, int], certificates: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcheckpoint.store.connect.PAUSES", (0.0,))
    with pytest.raises(ac.StoreUnavailable, match="certificate verify failed"):
        ac.connect(f"{scheme}://localhost:{tls_node[1]}/0?ssl_ca_certs={certificates / 'other'}")


@pytest.mark.parametrize("kind", [redis.Redis, aioredis.Redis, redis.RedisCluster, aioredis.RedisCluster])
def test_clients_over_tls_that_speak_resp3_and_decode(
    tls_node: tuple[Cluster, int], certificates: Path, kind: type[Any]
) -> None:
    ca = str(certificates / "certificate")
    greet(kind(host="localhost", port=tls_node[1], ssl=True, ssl_ca_certs=ca, protocol=3, decode_responses=True))


# -- users ------------------------------------------------------------------------------------------------------------


def documented(*extras: str) -> list[list[str]]:
    """The lines of docs/store.md that make the user, with what docs/servers.md adds for these."""
    text = page("docs/store.md").parts()["acl"].replace("\\\n", "")
    lines = [line.split() for line in text.splitlines() if line.startswith("ACL SETUSER")]
    rights = page("docs/servers.md").text.partition("## Rights")[2].replace("\\|", "|")
    for extra in extras:
        added = re.search(rf"^\| {re.escape(extra)} \| (.*?) \|", rights, re.MULTILINE)
        assert added is not None
        lines.append(["ACL", "SETUSER", USER, *re.findall(r"`(\+[\w|-]+)`", added[1])])
    return lines


def let_in(servers: list[Any], lines: list[list[str]]) -> None:
    for server in servers:
        for line in lines:
            server.ask(*line)


def refused(servers: list[Any]) -> set[str]:
    """What the servers did not let the user do."""
    return {entry[entry.index(b"object") + 1].decode() for one in servers for entry in one.ask("ACL", "LOG")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(VALKEY, tmp_path_factory.mktemp("cluster")) as made:
        yield made


def test_the_documented_user_can_lead_a_runs_life_in_a_cluster(cluster: Cluster) -> None:
    let_in(cluster.nodes, documented("a cluster"))
    with redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as admin:
        live(admin, cluster.url.replace("://", f"://{USER}:{PASSWORD}@"))  # type: ignore[arg-type]
    assert refused(cluster.nodes) <= ASIDE


def test_a_user_who_may_not_ask_who_has_which_slots_is_told_so(cluster: Cluster) -> None:
    let_in(cluster.nodes, documented())
    with pytest.raises(ac.StoreRefused, match=r"\+cluster\|slots"):
        ac.connect(cluster.url.replace("://", f"://{USER}:{PASSWORD}@") + "/0")


def test_the_documented_user_under_sentinel_whose_replicas_are_waited_for(tmp_path: Path) -> None:
    with Watched(VALKEY, tmp_path) as watched:
        servers = [watched.primary, watched.replica]
        let_in(servers, documented("Sentinel", '`durability="replicated"`'))
        for sentinel in watched.sentinels:
            sentinel.ask("ACL", "SETUSER", "asker", "on", ">s3cret", "-@all", "+sentinel|get-master-addr-by-name")
            sentinel.ask("ACL", "SETUSER", "default", "on", "nopass", "~*", "&*", "+@all")
        url = watched.url.replace("://", f"://{USER}:{PASSWORD}@")
        store = ac.connect(f"{url}/0?sentinel_username=asker&sentinel_password=s3cret", durability="replicated")
        assert "s3cret" not in repr(store) and PASSWORD not in repr(store)
        greet(store)
        assert refused(servers) <= ASIDE


@pytest.mark.parametrize("binary", sorted(binaries().values()))
def test_a_password_alone_and_decoded_resp3_clients_on_one_server(binary: str, tmp_path: Path) -> None:
    with Server(binary, tmp_path) as server:
        server.ask("ACL", "SETUSER", "default", "on", ">only-this")
        options: dict[str, Any] = {"password": "only-this", "decode_responses": True, "protocol": 3}
        for client in (redis.Redis, aioredis.Redis):
            greet(client(unix_socket_path=server.socket, **options))
        greet(f"unix://:only-this@{server.socket}")

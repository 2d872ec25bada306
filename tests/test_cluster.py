"""A cluster: a run's life on three nodes, its slot moved while it commits, and a primary that is killed."""

from __future__ import annotations

import asyncio
import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio as aioredis
from faults.clusters import Cluster, free_ports, slot_of_run
from faults.servers import Server, binaries
from moving import Worker, move, move_round
from servers import REAL

import agentcheckpoint as ac
from agentcheckpoint.store import routed
from agentcheckpoint.store.effects import NotSent, Packet
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.index import rebuild


@pytest.fixture(scope="module", params=sorted(binaries()))
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(binaries()[request.param], tmp_path_factory.mktemp("cluster")) as made:
        yield made


def test_a_runs_life_in_both_colours_on_all_nodes(cluster: Cluster, run_name: str) -> None:
    store = ac.connect(cluster.url)
    places: dict[int, list[str]] = {}
    for name in (f"{run_name}-{n}" for n in range(120)):
        places.setdefault(id(cluster.owner(slot_of_run(name))), []).append(name)
    names = [name for here in places.values() for name in here[:4]]
    assert len(places) == 3 and len(names) == 12
    for _ in range(2):
        for name in names:
            with ac.run(name, store=store) as run:
                assert run.step("greet", str.upper, name) == name.upper()

    async def on_a_loop() -> None:
        await asyncio.gather(*(greet(name) for name in names))

    async def greet(name: str) -> None:
        async with ac.run(f"{name}-a", store=store) as run:
            assert await run.step("greet", str.upper, name) == name.upper()

    asyncio.run(on_a_loop())
    assert {ac.get(name, store=store).state for name in names} == {"completed"}
    assert rebuild(store) >= 24  # each node is asked for its runs
    assert ac.costs(store=store) is not None
    ac.delete(names[0], store=store)
    with pytest.raises(ac.RunDeleted):
        ac.run(names[0], store=store).__enter__()


@pytest.fixture
def run_name() -> str:
    return f"run-{secrets.token_hex(4)}"


@pytest.mark.parametrize("on_a_loop", [False, True], ids=["threads", "loop"])
def test_nothing_is_lost_or_paid_twice_while_its_slot_is_moved(
    cluster: Cluster, on_a_loop: bool, run_name: str
) -> None:
    moved = cluster.refused("MOVED")
    with Worker(ac.connect(cluster.url), run_name, on_a_loop=on_a_loop) as worker:
        worker.goes_on()
        move_round(cluster, worker, 4)
    assert list(worker.wrong()) == []
    assert worker.bought >= 8 and cluster.refused("MOVED") >= moved + 4


@pytest.mark.parametrize("on_a_loop", [False, True], ids=["threads", "loop"])
def test_a_run_whose_slot_was_moved_unseen_is_claimed_where_it_is_now(
    cluster: Cluster, on_a_loop: bool, run_name: str
) -> None:
    store, slot = ac.connect(cluster.url), slot_of_run(run_name)

    async def on_loop() -> None:
        async with ac.run(run_name, store=store) as run:
            assert await run.step("greet", str.upper, "x") == "X"

    def once() -> None:
        if on_a_loop:
            return asyncio.run(on_loop())
        with ac.run(run_name, store=store) as run:
            assert run.step("greet", str.upper, "x") == "X"

    once()
    for _ in range(2):
        source = cluster.owner(slot)
        target = next(node for node in cluster.primaries if node is not source)
        move(cluster, slot, source, target)
        once()
        assert target.ask("CLUSTER", "COUNTKEYSINSLOT", slot)
    assert ac.get(run_name, store=store).attempt == 3


def test_a_transaction_with_a_key_of_ones_own_goes_to_the_runs_slot_wherever_it_is(
    cluster: Cluster, run_name: str
) -> None:
    def withdraw(tx: ac.Transaction) -> int:
        left = int(tx.read("GET", tx.key("balance")) or 100) - 10
        tx.queue("SET", tx.key("balance"), left)
        return left

    slot = slot_of_run(run_name)
    with ac.run(run_name, store=cluster.url) as run:
        assert run.transaction("first", withdraw) == 90
        source = cluster.owner(slot)
        move(cluster, slot, source, next(node for node in cluster.primaries if node is not source))
        assert run.transaction("second", withdraw) == 80


def test_a_refusal_to_ask_elsewhere_that_is_taken_for_a_commit_is_noticed(
    cluster: Cluster, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above: its check sees the steps that are then not recorded."""
    answered, believed = routed._answered, 0
    with Worker(ac.connect(cluster.url), run_name) as worker:
        worker.goes_on()

        def believe(part: Packet, *rest: Any) -> Any:
            nonlocal believed
            try:
                return (yield from answered(part, *rest))
            except NotSent as exc:
                if part.held or part.commands[0][0] != "MULTI" or part.commands[1][0] != "RPUSH":
                    raise
                assert "ASK" in str(exc) or "TRYAGAIN" in str(exc)
                believed += 1
                return [b"OK", *[b"QUEUED"] * (len(part.commands) - 2), _as_if_applied(part, worker.fence)]

        monkeypatch.setattr(routed, "_answered", believe)
        move_round(cluster, worker, 1)
    monkeypatch.undo()
    assert believed
    assert list(worker.wrong()) != []


def _as_if_applied(part: Packet, fence: Fence) -> list[Any]:
    """The replies that the commit would have had."""
    lengths = {"RPUSH": fence._log.most, "HLEN": fence._results.most}
    replies = [lengths.get(str(command[0]), 0) for command in part.commands[1:-3]]
    return [*replies, None, fence.token.encode()]


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "text"])
def test_clients_for_a_cluster_say_where_it_is(cluster: Cluster, decode: bool, run_name: str) -> None:
    port = cluster.primaries[0].port
    options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "decode_responses": decode, "protocol": 3}
    clients: list[Any] = [aioredis.RedisCluster(**options), redis.RedisCluster(**options)]
    for n, client in enumerate(clients):
        for _ in range(2):
            with ac.run(f"{run_name}-{n}-{decode}", store=client) as run:
                assert run.step("greet", str.upper, "x") == "X"
    clients[1].close()


def test_a_plain_url_of_a_node_says_what_to_use(cluster: Cluster) -> None:
    store = ac.connect(f"redis://127.0.0.1:{cluster.primaries[0].port}")
    with pytest.raises(ac.StoreRefused, match=r"redis\+cluster://"):
        for n in range(20):
            ac.run(f"elsewhere-{n}", store=store).__enter__()


def test_a_server_that_is_in_no_cluster_is_refused(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    alone = Server(next(iter(binaries().values())), tmp_path, {"port": port, "bind": "127.0.0.1"})
    with alone, pytest.raises(ac.StoreRefused, match="nodes of a cluster"):
        ac.connect(f"redis+cluster://127.0.0.1:{port}")


@pytest.mark.parametrize("binary", REAL[:1])
def test_a_primary_of_a_cluster_is_killed_while_a_run_works(binary: str, tmp_path: Path) -> None:
    with Cluster(binary, tmp_path / "nodes", replicas=True) as cluster:
        store = ac.connect(cluster.url, durability="replicated")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ac.DurabilityWarning)  # its new primary has no replica
            with Worker(store, "killed") as worker:
                worker.goes_on(3)
                lost = cluster.owner(worker.slot)
                lost.kill()
                worker.goes_on(3)
            new = cluster.owner(worker.slot)
            assert list(worker.wrong()) == []
    assert new in cluster.replicas

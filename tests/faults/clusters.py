"""A cluster of one's own: three primaries, with a replica each if need be; its slots can be moved, its nodes killed."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from agentcheckpoint.core.ids import run_tag

from .servers import Server, until

SLOTS = 16384
_BUS = 10_000
"""A node's bus has its port and so much more, and that lies below the ports that connections are given."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, nor on those of their buses."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(11_000, 20_900)
        if port not in found and all(_is_free(one) for one in (port, port + _BUS)):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


class Listening(Server):
    """A server that others can connect to: replicas, nodes, Sentinels."""

    def __init__(self, binary: str, directory: Path, port: int, settings: Mapping[str, str | int]) -> None:
        directory.mkdir()
        self.port = port
        here = {"port": port, "bind": "127.0.0.1", "repl-diskless-sync-delay": 0}
        super().__init__(binary, directory, {**here, **settings})

    def info(self, section: str, name: str) -> str:
        """One field of what ``INFO`` says; empty if it has none."""
        lines = self.ask("INFO", section).decode().splitlines()
        return next((line.partition(":")[2] for line in lines if line.startswith(f"{name}:")), "")


class Node(Listening):
    """One server of a cluster."""

    def __init__(self, binary: str, directory: Path, port: int, settings: Mapping[str, str | int]) -> None:
        cluster = {"cluster-enabled": "yes", "cluster-node-timeout": 1500}
        super().__init__(binary, directory, port, {**cluster, **settings})
        self.id = self.ask("CLUSTER", "MYID").decode()

    def state(self) -> dict[str, str]:
        """What it thinks of its cluster."""
        lines = self.ask("CLUSTER", "INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def refused(self, code: str) -> int:
        """How often it has refused something by that code."""
        told = self.info("errorstats", f"errorstat_{code}")
        return int(told.partition("=")[2]) if told else 0


class Cluster:
    """Primaries with a third of the slots each; it is killed at the end of its ``with``.

    Attributes:
        primaries: as they were at first.
        replicas: the n-th is that of the n-th primary.
    """

    def __init__(
        self,
        binary: str,
        room: Path,
        *,
        primaries: int = 3,
        replicas: bool = False,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        self._stack = ExitStack()
        room.mkdir(exist_ok=True)
        with ExitStack() as stack:
            ports = free_ports(2 * primaries if replicas else primaries)
            self.nodes = [stack.enter_context(Node(binary, room / str(port), port, settings or {})) for port in ports]
            self.primaries, self.replicas = self.nodes[:primaries], self.nodes[primaries:]
            self._form()
            self._stack = stack.pop_all()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def _form(self) -> None:
        share = -(-SLOTS // len(self.primaries))
        for n, node in enumerate(self.primaries):
            node.ask("CLUSTER", "ADDSLOTS", *range(n * share, min(SLOTS, (n + 1) * share)))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        until(self._have_met, "the nodes have met")
        for replica, node in zip(self.replicas, self.primaries, strict=False):
            until(lambda r=replica, p=node: p.id in r.ask("CLUSTER", "NODES").decode(), "it knows its primary")  # type: ignore[misc]
            replica.ask("CLUSTER", "REPLICATE", node.id)
        until(lambda: all(node.state()["cluster_state"] == "ok" for node in self.nodes), "the cluster is up")
        until(lambda: all(r.info("replication", "master_link_status") == "up" for r in self.replicas), "linked")

    def _have_met(self) -> bool:
        """Whether all know all; who does not is introduced again: a slow handshake is forgotten."""
        if all(node.state()["cluster_known_nodes"] == str(len(self.nodes)) for node in self.nodes):
            return True
        for node in self.nodes[1:]:
            if node.id not in self.nodes[0].ask("CLUSTER", "NODES").decode():
                self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        time.sleep(0.3)
        return False

    def owner(self, slot: int) -> Node:
        """Who has a slot, by his own word."""
        return next(node for node in self.nodes if not node.ended() and slot in _own_slots(node))

    def migrate(self, slot: int, source: Node, target: Node, most: int = 1000) -> bool:
        """Begins or continues to move a slot, ``most`` keys of it; returns whether all its keys are moved."""
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, most)
        if keys:
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return not source.ask("CLUSTER", "COUNTKEYSINSLOT", slot)

    def settle(self, slot: int, target: Node) -> None:
        """Ends the move: the target has the slot now. Raises what the servers say as long as keys are left."""
        others = [node for node in self.primaries if node is not target and not node.ended()]
        for node in (target, *others):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def refused(self, *codes: str) -> int:
        return sum(node.refused(code) for node in self.nodes if not node.ended() for code in codes)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def slot_of_run(run_id: str, namespace: str = "default") -> int:
    """The slot that a run's keys lie in."""
    return int(key_slot(f"ac:{{{run_tag(namespace, run_id)}}}:head".encode()))


def _own_slots(node: Node) -> set[int]:
    ranges: list[Any] = node.ask("CLUSTER", "SLOTS")
    return {
        slot for first, last, owner, *_ in ranges if owner[2].decode() == node.id for slot in range(first, last + 1)
    }

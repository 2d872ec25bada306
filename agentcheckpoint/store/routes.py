"""Which of several servers has a key: in a cluster the owner of its slot, with Sentinel whoever is primary. Pure.

What is known may be out of date: a server says so when it refuses, or is gone, and then it is asked for again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, cast

from redis.crc import key_slot

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.effects import Command, Lost, Node, NotSent, Packet, Protocol, Refusal, Reply

KEYLESS = frozenset({"MULTI", "EXEC", "TIME", "INFO", "CONFIG", "SCAN"})
"""Commands of this library that name no key; in all others the first word is one."""


class Routes(ABC):
    """What is known of who has what. Threads and loops share it: each change of it is one assignment."""

    @property
    @abstractmethod
    def primaries(self) -> tuple[Node, ...]:
        """The servers that take writes, as far as is known; none: nobody was asked yet."""

    @abstractmethod
    def owner(self, command: Command) -> Node | None:
        """Who has the command's key; ``None``: it names none. Raises ``NotSent``: nobody has it."""

    @abstractmethod
    def look(self, avoid: Node | None = None) -> Protocol[None]:
        """Asks who has what, and ``avoid`` last.

        Raises:
            NotSent: nobody tells.
            StoreRefused: nobody may tell this user, or there is nothing of the kind.
        """

    def moved(self, why: Refusal, by: Node) -> None:
        """A server has named another as the owner."""
        return

    def greeting(self, node: Node) -> tuple[Command, ...]:
        """What a new connection to that server is asked first, before it is used."""
        return ()

    def check(self, node: Node, replies: Sequence[Reply]) -> None:
        """Raises ``NotSent`` if these answers to the greeting say that it is not the server that it was taken for."""
        return


class SlotRoutes(Routes):
    """A cluster: each of its 16,384 slots has one owner, and all keys of a run lie in one slot."""

    def __init__(self, seeds: Sequence[Node]) -> None:
        self._seeds = tuple(seeds)
        self._nodes: tuple[Node, ...] = ()
        self._owners: dict[int, Node] = {}
        self._primaries: tuple[Node, ...] = ()

    @property
    def primaries(self) -> tuple[Node, ...]:
        return self._primaries

    def owner(self, command: Command) -> Node | None:
        if command[0] in KEYLESS:
            return None
        key = command[1]
        slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
        if slot not in self._owners:
            raise NotSent(f"no server of the cluster has slot {slot}")
        return self._owners[slot]

    def look(self, avoid: Node | None = None) -> Protocol[None]:
        trouble: object = "no node is known"
        asked = dict.fromkeys((*self._nodes, *self._seeds))
        for node in sorted(asked, key=lambda node: node == avoid):
            try:
                (reply,) = yield Packet((("CLUSTER", "SLOTS"),), node=node)
            except (NotSent, Lost) as exc:
                trouble = exc
                continue
            if isinstance(reply, Refusal):
                raise StoreRefused(
                    f"{node[0]}:{node[1]} does not say who has which slots: {reply}. Nothing was written. "
                    "redis+cluster:// is for the nodes of a cluster, and takes +cluster|slots."
                )
            if reply:
                self._note(reply, node)
                return
            trouble = f"{node[0]}:{node[1]} knows of no slots"
        raise NotSent(f"no node of the cluster says who has which slots: {trouble}")

    def _note(self, ranges: Sequence[Any], by: Node) -> None:
        owners: dict[int, Node] = {}
        seen: dict[Node, None] = {}
        for first, last, primary, *replicas in ranges:
            owner = _named(primary, by)
            owners.update(dict.fromkeys(range(first, last + 1), owner))
            seen.update(dict.fromkeys((owner, *(_named(replica, by) for replica in replicas))))
        self._owners, self._nodes = owners, tuple(seen)
        self._primaries = tuple(dict.fromkeys(owners.values()))

    def moved(self, why: Refusal, by: Node) -> None:
        slot, _, address = why.text.partition(" ")
        host, _, port = address.rpartition(":")
        if slot.isdigit() and port.isdigit():
            owner = (host or by[0], int(port))
            self._owners = self._owners | {int(slot): owner}
            self._primaries = tuple(dict.fromkeys((*self._primaries, owner)))


class MasterRoute(Routes):
    """Sentinel: one primary at a time has all keys. Each new connection to it is asked whether it is one still."""

    def __init__(self, sentinels: Sequence[Node], name: str) -> None:
        self.sentinels = tuple(sentinels)
        self._name = name
        self._primary: Node | None = None
        self._asked = 0

    @property
    def primaries(self) -> tuple[Node, ...]:
        return () if self._primary is None else (self._primary,)

    def owner(self, command: Command) -> Node | None:
        return self._primary

    def look(self, avoid: Node | None = None) -> Protocol[None]:
        trouble: object = "none is known"
        for sentinel in self._in_turn():
            try:
                (reply,) = yield Packet((("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name),), node=sentinel)
            except (NotSent, Lost) as exc:
                trouble = exc
                continue
            if isinstance(reply, list):
                self._primary = _named(cast("Sequence[Any]", reply), sentinel)
                return
            trouble = f"{sentinel[0]}:{sentinel[1]} {'knows none of that name' if reply is None else reply}"
        raise NotSent(f"no Sentinel names the primary {self._name!r}: {trouble}")

    def _in_turn(self) -> Iterator[Node]:
        """Another one is asked first each time: one that was cut off may name an old primary."""
        for _ in self.sentinels:
            self._asked += 1
            yield self.sentinels[self._asked % len(self.sentinels)]

    def greeting(self, node: Node) -> tuple[Command, ...]:
        return () if node in self.sentinels else (("ROLE",),)

    def check(self, node: Node, replies: Sequence[Reply]) -> None:
        role = replies[0] if replies else None
        if isinstance(role, list) and role[0] != b"master":
            raise NotSent(f"{node[0]}:{node[1]} is no primary any more")


def _named(address: Sequence[Any], by: Node) -> Node:
    """An address as a server has named it; without a host it is its own."""
    return address[0].decode() if address[0] else by[0], int(address[1])

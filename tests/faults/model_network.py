"""The model's network: connections on which one packet is lost, late, or answered to nobody, as the search wants it.

It lies below the library's own wires and thread driver, so that what they make of a broken connection is tested too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis import ConnectionError as BrokenConnection

from agentcheckpoint.store.dial import Dial
from agentcheckpoint.store.effects import Command, Node, NotSent, Protocol, T
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.resp import pack
from agentcheckpoint.store.wire import Wire

Fate = Literal["request lost", "reply lost", "late", "unreachable"]


@dataclass(eq=False, slots=True)
class Ghost:
    """A packet that its sender has given up, and that will arrive all the same."""

    sender: Fence | None
    connection: Any
    commands: Sequence[Command]

    def arrive(self) -> None:
        self.connection.send_packed_command([pack(self.commands)], check_health=False)
        _read(self.connection, len(self.commands))
        self.connection.disconnect()


class Network:
    """Opens wires like a ``Dial``; ``fate`` befalls the next packet.

    Attributes:
        fate: what is to happen to the packet that leaves next, or to the attempt to connect for it.
        sending: the commands of that packet.
        sender: whose it is.
        ghosts: the packets that are still on their way.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self.fate: Fate | None = None
        self.sending: Sequence[Command] = ()
        self.sender: Fence | None = None
        self.ghosts: list[Ghost] = []

    def led(self, protocol: Protocol[T]) -> Protocol[T]:
        return protocol

    def open(self, patience: int = 1, node: Node | None = None) -> Wire:
        if self.fate == "unreachable":
            raise NotSent(self.fate)
        return Wire(Line(self, self._dial.open(patience)._connection))

    def plain(self) -> Wire:
        """A wire that no fate befalls, to look at the server with."""
        return self._dial.open()

    def fresh(self) -> Any:
        """A connection of redis-py's that is open."""
        return self._dial.open()._connection


class Line:
    """One connection. Like redis-py's own, it connects anew by itself when it is used after it broke."""

    def __init__(self, network: Network, connection: Any) -> None:
        self._network = network
        self._real = connection
        self._broken = False

    def cut(self) -> None:
        """The other side has closed it; who uses it finds out only then."""
        self.disconnect()
        self._broken = True

    def connect(self) -> None:
        if self._real is None:
            self._real = self._network.fresh()

    def send_packed_command(self, packet: Any, check_health: bool = True) -> None:
        network = self._network
        fate, network.fate = network.fate, None
        if self._broken:
            self._broken = False
            raise BrokenConnection("cut")
        self.connect()
        if fate == "late":
            network.ghosts.append(Ghost(network.sender, self._real, network.sending))
            self._real = None
        elif fate != "request lost" and fate != "unreachable":
            self._real.send_packed_command(packet, check_health=check_health)
        if fate == "reply lost":
            _read(self._real, len(network.sending))  # else nobody knows when the server gets to it
        if fate is not None:
            raise BrokenConnection(fate)

    def read_response(self, **options: Any) -> Any:
        return self._real.read_response(**options)

    def can_read(self, timeout: float) -> bool:
        return self._network.fate == "unreachable" or bool(self._real.can_read(timeout))

    def disconnect(self) -> None:
        """What was watched on it is forgotten."""
        if self._real is not None:
            self._real.disconnect()
            self._real = None


def _read(connection: Any, count: int) -> None:
    Wire(connection)._read(count)

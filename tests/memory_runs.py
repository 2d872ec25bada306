"""Runs on an in-memory server of their own, what is stored of them, and the packets that they send."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Logged
from agentcheckpoint.store.async_wire import AsyncWire
from agentcheckpoint.store.effects import Packet, Protocol
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.wire import Wire

E = TypeVar("E", bound=Logged)


def fresh() -> str:
    """The URL of an empty in-memory server."""
    return f"memory://{secrets.token_hex(8)}"


def logged(url: str, run_id: str, kind: type[E]) -> list[E]:
    """The run's log entries of one kind."""
    return [entry for entry in ac.get(run_id, store=url).entries if isinstance(entry, kind)]


def ask(url: str, *command: str) -> Any:
    """What the server answers."""

    def protocol() -> Protocol[Any]:
        replies = yield Packet((command,))
        return replies[0]

    return ac.connect(url).run(protocol())


def leased(url: str, run_id: str) -> bool:
    """Whether somebody holds the run's lease."""
    keys = RunKeys(run_tag("default", run_id))
    return bool(ask(url, "EXISTS", keys.lease(ask(url, "GET", keys.head).decode())))


@contextmanager
def packets(patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes, in commands or bytes, of the packets that leave meanwhile, in either colour.

    Those that renew a lease are not among them: they come by the clock, on a slow machine in the middle of anything.
    """
    sent: list[int] = []
    exchange, send = Wire.exchange, AsyncWire.send

    def noted(wire: Wire, commands: Any) -> Any:
        if threading.current_thread().name != "agentcheckpoint-leases":
            sent.append(len(commands))
        return exchange(wire, commands)

    def noted_async(wire: AsyncWire, parcels: Any) -> None:
        sent.append(sum(len(parcel.packet) for parcel in parcels))
        send(wire, parcels)

    with patch.context() as patched:
        patched.setattr(Wire, "exchange", noted)
        patched.setattr(AsyncWire, "send", noted_async)
        yield sent

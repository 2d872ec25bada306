"""What stands on the server for one run, read whole after each packet that reached it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from agentcheckpoint.core.models import LedgerEntry, LogEntry, Rejected
from agentcheckpoint.store.effects import Command
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.loading import parse_entry
from agentcheckpoint.store.wire import Wire


@dataclass(frozen=True, slots=True)
class World:
    """One run, as it stands under its head."""

    head: str | None = None
    tombstone: bool = False
    tokens: tuple[str, ...] = ()
    waste: dict[str, str] = field(default_factory=dict[str, str])
    log: tuple[bytes, ...] = ()
    results: dict[str, str] = field(default_factory=dict[str, str])
    meta: dict[str, str] = field(default_factory=dict[str, str])
    lease: bytes | None = None

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        return tuple(_entry(line) for line in self.log)

    @property
    def ids(self) -> list[str]:
        return [entry.id for entry in self.entries]

    @property
    def rejected(self) -> set[str]:
        """The records that were refused."""
        return {entry.target for entry in self.entries if isinstance(entry, Rejected)}

    @property
    def wasted(self) -> dict[str, LedgerEntry]:
        """What was booked as waste, by the names it is booked under."""
        return {name: LedgerEntry.model_validate_json(line) for name, line in self.waste.items()}


def read_world(wire: Wire, keys: RunKeys, last: World) -> World:
    """All that stands there now; ``last`` was read before."""
    while True:
        token = last.head or "0.none"
        head, tomb, tokens, waste, log, results, meta, lease = _ask(
            wire,
            ("GET", keys.head),
            ("EXISTS", keys.tomb),
            ("LRANGE", keys.tokens, 0, -1),
            ("HGETALL", keys.waste),
            ("LRANGE", keys.log(token), 0, -1),
            ("HGETALL", keys.results(token)),
            ("HGETALL", keys.meta(token)),
            ("GET", keys.lease(token)),
        )
        issued = tuple(token.decode() for token in tokens)
        if head is None:
            return World(None, bool(tomb), issued, _pairs(waste))
        if head == token.encode():
            return World(token, bool(tomb), issued, _pairs(waste), tuple(log), _pairs(results), _pairs(meta), lease)
        last = World(head.decode())


def mortal(wire: Wire, keys: RunKeys, token: str) -> list[str]:
    """Which data keys of this token have a time to live."""
    names = keys.data(token)
    ttls = _ask(wire, *(("PTTL", name) for name in names))
    return [name for name, ttl in zip(names, ttls, strict=True) if ttl >= 0]


def left_of(wire: Wire, keys: RunKeys, tokens: Iterable[str]) -> list[str]:
    """Which keys of these tokens there are."""
    names = [name for token in tokens for name in (*keys.data(token), keys.lease(token))]
    return [name for name, there in zip(names, _ask(wire, *(("EXISTS", name) for name in names)), strict=True) if there]


def _ask(wire: Wire, *commands: Command) -> Sequence[Any]:
    if not commands:
        return ()
    replies = wire.exchange((("MULTI",), *commands, ("EXEC",)))[-1]
    assert isinstance(replies, list), replies
    return replies


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


@lru_cache(maxsize=4096)
def _entry(line: bytes) -> LogEntry:
    return parse_entry("model", "log", 0, line)

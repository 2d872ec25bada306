"""The raw keys of a run, whatever server they are on: read whole, written back, and damaged."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.store.effects import Argument, Packet, Protocol
from agentcheckpoint.store.keys import RunKeys


@dataclass(frozen=True, slots=True)
class Odd:
    """A key of a type that this library does not use: the command that makes it, and its arguments."""

    word: str
    args: tuple[bytes, ...]


Value: TypeAlias = bytes | list[bytes] | dict[bytes, bytes] | Odd
"""A string, a list, a hash, or something else."""
Contents: TypeAlias = dict[bytes, Value]
"""The keys of one run. Times to live are no part of it."""

_READ: dict[bytes, tuple[Argument, ...]] = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"hash": ("HGETALL",),
    b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"stream": ("XRANGE", "-", "+"),
}
LEASE_MS = 60_000
"""How long a lease that is written lasts: those of other types never expire."""
_FIXED = ("head", "tokens", "waste", "cancel", "answers", "tomb")


def send(store: ac.Store, *commands: tuple[Argument, ...]) -> list[Any]:
    """What the server answers to each."""

    def protocol() -> Protocol[list[Any]]:
        return (yield Packet(commands))

    return store.run(protocol()) if commands else []


def keys_of(run_id: str, namespace: str = "default") -> RunKeys:
    return RunKeys(run_tag(namespace, run_id))


def key_of(url: str, run_id: str, name: str) -> str:
    """The full name of one of the run's keys, under its present token."""
    keys = keys_of(run_id)
    if name in _FIXED:
        return str(getattr(keys, name))
    (head,) = send(ac.connect(url), ("GET", keys.head))
    return str(getattr(keys, name)(head.decode()))


def contents(store: str | ac.Store, run_id: str, namespace: str = "default") -> Contents:
    """All keys of the run, under whatever token."""
    server = ac.connect(store)
    (names,) = send(server, ("KEYS", f"ac:{{{keys_of(run_id, namespace).tag}}}:*"))
    found: Contents = {}
    for name, kind in zip(sorted(names), send(server, *(("TYPE", name) for name in sorted(names))), strict=True):
        word, *rest = _READ[kind]
        (value,) = send(server, (word, name, *rest))
        found[name] = _value(kind, value)
    return found


def _value(kind: bytes, value: Any) -> Value:
    if kind == b"hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    if kind == b"zset":
        return Odd("ZADD", (value[1], value[0]))
    if kind == b"stream":
        return Odd("XADD", (b"*", *value[0][1]))
    return Odd("SADD", tuple(value)) if kind == b"set" else value


def put(store: str | ac.Store, kept: Contents) -> None:
    """Writes such keys; what stood under their names is gone."""
    send(ac.connect(store), *(command for name, value in kept.items() for command in _writing(name, value)))


def _writing(name: bytes, value: Value) -> Iterator[tuple[Argument, ...]]:
    yield "DEL", name
    if isinstance(value, Odd):
        yield value.word, name, *value.args
    elif isinstance(value, bytes):
        yield ("SET", name, value, "PX", LEASE_MS) if name.endswith(b":lease") else ("SET", name, value)
    elif isinstance(value, list):
        if value:
            yield "RPUSH", name, *value
    elif value:
        yield "HSET", name, *(part for pair in value.items() for part in pair)


def entries_of(url: str, run_id: str, kind: str) -> list[dict[str, Any]]:
    """The log entries of a kind, as they are stored."""
    (lines,) = send(ac.connect(url), ("LRANGE", key_of(url, run_id, "log"), 0, -1))
    return [entry for entry in map(json.loads, lines) if entry["k"] == kind]


def rewrite(url: str, run_id: str, kind: str, change: Callable[[dict[str, Any]], object]) -> int:
    """Damages the first log entry of a kind; returns its place."""
    log = key_of(url, run_id, "log")
    (lines,) = send(ac.connect(url), ("LRANGE", log, 0, -1))
    index = next(i for i, line in enumerate(lines) if json.loads(line)["k"] == kind)
    entry = json.loads(lines[index])
    change(entry)
    send(ac.connect(url), ("LSET", log, index, _dumped(entry)))
    return index


def _dumped(entry: dict[str, Any]) -> str:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # what is damaged may be a number that Python does not write
    try:
        return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    finally:
        sys.set_int_max_str_digits(limit)

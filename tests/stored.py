"""The raw keys of a run, whatever server they are on: read whole, written back, and damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.store.effects import Argument, Packet, Protocol
from agentcheckpoint.store.keys import RunKeys

Value: TypeAlias = bytes | list[bytes] | dict[bytes, bytes]
"""A string, a list or a hash."""
Contents: TypeAlias = dict[bytes, Value]
"""The keys of one run. Times to live are no part of it."""

_READ = {b"string": ("GET",), b"list": ("LRANGE", 0, -1), b"hash": ("HGETALL",)}
_READ_ODD = {b"set": ("SMEMBERS",), b"zset": ("ZRANGE", 0, -1), b"stream": ("XLEN",)}
_FIXED = ("head", "tokens", "waste", "tomb")


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
        word, *rest = (_READ | _READ_ODD)[kind]
        (value,) = send(server, (word, name, *rest))
        found[name] = dict(zip(value[::2], value[1::2], strict=True)) if kind == b"hash" else value
    return found


def put(store: str | ac.Store, kept: Contents) -> None:
    """Writes such keys; what stood under their names is gone."""
    send(ac.connect(store), *(command for name, value in kept.items() for command in writing(name, value)))


def writing(name: bytes, value: Value) -> list[tuple[Argument, ...]]:
    """The commands that write a key anew."""
    commands: list[tuple[Argument, ...]] = [("DEL", name)]
    if isinstance(value, bytes):
        commands.append(("SET", name, value))
    elif isinstance(value, list):
        commands += [("RPUSH", name, *value)] if value else []
    else:
        commands += [("HSET", name, *(part for pair in value.items() for part in pair))] if value else []
    return commands


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
    import sys

    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # what is damaged may be a number that Python does not write
    try:
        return json.dumps(entry, ensure_ascii=False)
    finally:
        sys.set_int_max_str_digits(limit)

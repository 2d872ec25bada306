"""Runs that ended so long ago as a test needs, in any state, and all that is stored of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.price import Price
from agentcheckpoint.store.effects import Packet, Protocol
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.wire import Wire

DAY = 24 * 3600 * 1000
"""Milliseconds."""
PRICES = {"m": Price(input="1", output="2")}


def paid(name: str, key: str | None = None) -> ac.Step:
    """A step that costs a dollar."""
    return ac.Step(name, key=key, model="m", prices=PRICES, usage=lambda _: ac.Usage(input_tokens=1_000_000))


def buy(_: object = None) -> str:
    """What such a step calls."""
    return "bought"


def ask(url: str, *command: Any) -> Any:
    """What the server answers."""

    def protocol() -> Protocol[Any]:
        replies = yield Packet((command,))
        return replies[0]

    return ac.connect(url).run(protocol())


def keys_of(run_id: str) -> RunKeys:
    return RunKeys(run_tag("default", run_id))


def put_back(url: str, run_id: str, state: str, days: float) -> None:
    """Lets a run be in this state, and all that happened to it be so many days longer ago."""
    keys = keys_of(run_id)
    head = ask(url, "GET", keys.head).decode()
    for n, line in enumerate(ask(url, "LRANGE", keys.log(head), 0, -1)):
        entry = json.loads(line)
        ask(url, "LSET", keys.log(head), n, json.dumps({**entry, "at": entry["at"] - int(days * DAY)}))
    ask(url, "HSET", keys.meta(head), "state", state)
    ask(url, "ZINCRBY", "ac:{runs-default}:opened", -int(days * DAY), run_id)


def old_run(url: str, run_id: str, days: float = 31, state: str = "completed") -> None:
    """A run with one paid step ($1) that ended so many days ago."""
    with ac.run(run_id, store=url) as run:
        run.llm(paid("think"), buy)
    put_back(url, run_id, state, days)


READ = {b"string": ("GET",), b"hash": ("HGETALL",), b"list": ("LRANGE", 0, -1), b"zset": ("ZRANGE", 0, -1)}


def stored(url: str, run_id: str) -> dict[str, Any]:
    """All keys of a run with what they hold, named without the tag."""
    prefix = f"ac:{{{keys_of(run_id).tag}}}:"
    found: dict[str, Any] = {}
    cursor: Any = b"0"
    while True:
        cursor, names = ask(url, "SCAN", cursor, "MATCH", re.sub(r"([\[\]])", r"\\\1", prefix) + "*", "COUNT", 1000)
        for name in names:
            word, *rest = READ[ask(url, "TYPE", name)]
            found[name.decode().removeprefix(prefix)] = ask(url, word, name, *rest)
        if cursor in (b"0", 0):
            return found


def at_the_deletion(patch: pytest.MonkeyPatch, act: Callable[[], None], *, watching: bool = True) -> None:
    """Acts once, right before the transaction of a deletion is sent. Without ``watching`` no WATCH is sent."""
    exchange, waiting = Wire.exchange, [act]

    def exchanged(wire: Wire, commands: Any) -> Any:
        if commands[0] == ("MULTI",) and str(commands[1][1]).endswith(":tomb") and waiting:
            waiting.pop()()
        if not watching:
            commands = tuple(("EXISTS", "nothing") if command[0] == "WATCH" else command for command in commands)
        return exchange(wire, commands)

    patch.setattr(Wire, "exchange", exchanged)

"""A run as it lies in the store, read raw: no code of the library's decides what is found there."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

from agentcheckpoint.core.ids import run_tag

MONEY = ("paid", "wasted")
DUE = "ac:{runs-default}:due"
GOES_ON = frozenset({"running", "interrupted"})
REST = frozenset({"waiting", "retryable"})
LISTS = (DUE, "ac:{runs-default}:opened")


@dataclass(frozen=True, slots=True)
class World:
    """What stands under the current token, and what stands beside it."""

    head: str
    tokens: list[str]
    log: list[dict[str, Any]]
    results: dict[str, bytes]
    meta: dict[str, str]
    waste: dict[str, dict[str, Any]]
    leased: bool
    orphans: list[str]
    """Keys under tokens that are not current."""
    given: dict[str, dict[str, Any]]
    """What came of its waits, by the ids of their entries."""
    cancel: bool
    """Its end is asked for."""
    look_ms: int | None
    """When somebody is to look at it, as the list of runs that may want work says; ``None``: that does not name it."""
    marks: dict[str, set[str]]
    """The items that unordered loops have marked, by the ends of the names of their keys."""
    own: dict[str, list[str]]
    """The user's own keys, by their names: a number is a list of one."""

    @property
    def done(self) -> list[dict[str, Any]]:
        """The checkpoints that stand."""
        rejected = {entry["target"] for entry in self.log if entry["k"] == "rejected"}
        return [entry for entry in self.log if entry["k"] == "done" and entry["id"] not in rejected]

    @property
    def slots(self) -> list[str]:
        return sorted(entry["slot"] for entry in self.done)

    @property
    def ledger(self) -> dict[str, dict[str, Any]]:
        """What the log says last of each attempt to buy something; one that is settled stays so."""
        entries: dict[str, dict[str, Any]] = {}
        for logged in self.log:
            for entry in logged.get("entries", ()):
                if entry["id"] not in entries or entry["bill"] != "unresolved":
                    entries[entry["id"]] = entry
        return entries

    @property
    def has_work(self) -> bool:
        """Somebody is to find it, now or when its time has come."""
        state = self.meta.get("state")
        return state in GOES_ON or (state in REST and (bool(self.meta.get("due")) or self.cancel))

    def open_waits(self) -> list[str]:
        """The slots of the questions that it waits for."""
        ended = {entry["slot"] for entry in self.log if entry["k"] == "done"}
        return sorted({e["slot"] for e in self.log if e["k"] == "waiting" and e.get("answer")} - ended)

    def failures(self, slot_end: str) -> int:
        """How many tries of a step are recorded as failed."""
        return sum(entry["k"] == "failed" and entry["slot"].endswith(slot_end) for entry in self.log)

    def labelled(self) -> dict[str, tuple[str, Any]]:
        """Of the steps whose result says which they are: slot and result, by label."""
        found: dict[str, tuple[str, Any]] = {}
        for entry in self.done:
            try:
                value = json.loads(self.results[entry["id"]])
            except (ValueError, KeyError):
                continue
            if isinstance(value, dict) and "label" in value:
                found[value["label"]] = (entry["slot"], value)
        return found


def read_world(client: redis.Redis, run_id: str) -> World | None:
    """The run of the default namespace, or ``None`` if there is not one key of it."""
    tag = run_tag("default", run_id)
    prefix = f"ac:{{{tag}}}:"
    found = sorted(name.decode() for name in client.scan_iter(match=f"*{{{tag}}}:*".encode(), count=10_000))
    names = [name for name in found if name.startswith(prefix)]
    head = (client.get(f"{prefix}head") or b"").decode()
    marked = f"{prefix}{head}:marks:"
    if not names:
        return None
    look = client.zscore(DUE, run_id)
    fixed = {f"{prefix}{name}" for name in ("head", "tokens", "waste", "tomb", "answers", "cancel")}
    return World(
        head=head,
        tokens=[token.decode() for token in client.lrange(f"{prefix}tokens", 0, -1)],
        log=[json.loads(line) for line in client.lrange(f"{prefix}{head}:log", 0, -1)],
        results={field.decode(): data for field, data in client.hgetall(f"{prefix}{head}:results").items()},
        meta={field.decode(): value.decode() for field, value in client.hgetall(f"{prefix}{head}:meta").items()},
        waste={field.decode(): json.loads(line) for field, line in client.hgetall(f"{prefix}waste").items()},
        leased=bool(client.exists(f"{prefix}{head}:lease")),
        orphans=[name for name in names if name not in fixed and not name.startswith(f"{prefix}{head}:")],
        given={field.decode(): json.loads(line) for field, line in client.hgetall(f"{prefix}answers").items()},
        cancel=bool(client.exists(f"{prefix}cancel")),
        look_ms=None if look is None else int(look),
        marks={n.removeprefix(marked): _texts(client.hkeys(n)) for n in names if n.startswith(marked)},
        own={n.partition(":")[2]: _own(client, n) for n in found if n not in names},
    )


def _texts(found: Any) -> set[str]:
    return {text.decode() for text in found}


def _own(client: redis.Redis, name: str) -> list[str]:
    if client.type(name) == b"list":
        return [text.decode() for text in client.lrange(name, 0, -1)]
    return [(client.get(name) or b"").decode()]


def forget(client: redis.Redis, run_id: str) -> None:
    """Deletes all keys of the run, and what lists it."""
    tag = run_tag("default", run_id)
    client.delete(*LISTS, *client.scan_iter(match=f"*{{{tag}}}:*", count=10_000))


def torn(world: World) -> list[str]:
    """Where the run contradicts itself: what no crash may leave behind."""
    wrong: list[str] = []
    birth = next(iter(world.log), {"k": "", "id": ""})
    if not world.tokens or world.tokens[-1] != world.head:
        wrong.append(f"the head {world.head!r} is not the last token issued")
    if birth["k"] != "birth" or world.meta.get("@") != birth["id"] or world.results.get("@") != birth["id"].encode():
        wrong.append("a birth mark is missing")
    twice = [id for id, count in Counter(entry["id"] for entry in world.log).items() if count > 1]
    if twice:
        wrong.append(f"entries stand in the log twice: {twice}")
    named = {entry["id"]: entry["payload"] for entry in world.log if entry["k"] == "done"}
    named |= {entry["id"]: entry["output"] for entry in world.log if entry["k"] == "closed" and "output" in entry}
    named |= {entry["id"]: entry["input"] for entry in world.log if "size" in (entry.get("input") or {})}
    if world.results.keys() - {"@"} != named.keys():
        wrong.append("the results are not those that the log names")
    elif any(len(world.results[id]) != payload["size"] for id, payload in named.items()):
        wrong.append("a result is not of the size that the log names")
    for bill in MONEY:
        sum_ = sum(entry.get("cost", 0) for entry in world.ledger.values() if entry["bill"] == bill)
        if int(world.meta.get(bill, "0")) != sum_:
            wrong.append(f"the total {bill!r} is {world.meta.get(bill)}; its entries sum up to {sum_}")
    refused = Counter(entry["target"] for entry in world.log if entry["k"] == "rejected")
    if any(count > 1 for count in refused.values()):
        wrong.append("an answer was refused twice: it was replayed after its refusal")
    if len(set(world.slots)) != len(world.slots):
        wrong.append(f"two checkpoints stand in one slot: {world.slots}")
    return wrong

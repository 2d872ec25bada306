"""A run as it lies in the store, read raw: no code of the library's decides what is found there."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis

MONEY = ("paid", "wasted")


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


def read_world(client: redis.Redis, tag: str) -> World | None:
    """The run, or ``None`` if there is not one key of it."""
    prefix = f"ac:{{{tag}}}:"
    names = sorted(name.decode() for name in client.scan_iter(match=f"{prefix}*".encode(), count=10_000))
    head = (client.get(f"{prefix}head") or b"").decode()
    if not names:
        return None
    fixed = {f"{prefix}{name}" for name in ("head", "tokens", "waste", "tomb")}
    return World(
        head=head,
        tokens=[token.decode() for token in client.lrange(f"{prefix}tokens", 0, -1)],
        log=[json.loads(line) for line in client.lrange(f"{prefix}{head}:log", 0, -1)],
        results={field.decode(): data for field, data in client.hgetall(f"{prefix}{head}:results").items()},
        meta={field.decode(): value.decode() for field, value in client.hgetall(f"{prefix}{head}:meta").items()},
        waste={field.decode(): json.loads(line) for field, line in client.hgetall(f"{prefix}waste").items()},
        leased=bool(client.exists(f"{prefix}{head}:lease")),
        orphans=[name for name in names if name not in fixed and not name.startswith(f"{prefix}{head}:")],
    )


def forget(client: redis.Redis, tag: str) -> None:
    """Deletes all keys of the run."""
    for name in list(client.scan_iter(match=f"ac:{{{tag}}}:*", count=10_000)):
        client.delete(name)


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

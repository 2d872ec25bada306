"""What a server holds of a run, read key by key without the library; and what of it contradicts an agent's account."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .server_agent import PAID, PLAIN, PRICE, Account
from .servers import Server


@dataclass(frozen=True, slots=True)
class Stored:
    """One run as it lies on the server."""

    head: str
    log: list[dict[str, Any]]
    results: dict[str, bytes]
    meta: dict[str, str]
    waste: list[dict[str, Any]]
    names: set[str]
    """The ends of the names of its keys, with the tokens of those that bear one."""

    def done(self) -> dict[str, list[dict[str, Any]]]:
        """The checkpoints that stand, by slot: two in one slot are one too many."""
        rejected = {entry["target"] for entry in self.log if entry["k"] == "rejected"}
        found: dict[str, list[dict[str, Any]]] = {}
        for entry in self.log:
            if entry["k"] == "done" and entry["id"] not in rejected:
                found.setdefault(entry["slot"], []).append(entry)
        return found

    def bills(self) -> dict[str, str]:
        """What each paid attempt came to: the last word on it in the log, and waste where that has none."""
        found: dict[str, str] = {}
        for bought in (bought for entry in self.log for bought in entry.get("entries", ())):
            if found.get(bought["id"], "unresolved") == "unresolved" or bought["bill"] != "unresolved":
                found[bought["id"]] = bought["bill"]
        for bought in self.waste:
            if found.get(bought["id"], "unresolved") == "unresolved":
                found[bought["id"]] = bought["bill"]
        return found

    def receipt(self, entry: dict[str, Any]) -> str | None:
        """The receipt in the result of a checkpoint."""
        data = self.results.get(entry["id"])
        return None if data is None else str(json.loads(data)["receipt"])


def prefix_of(run_id: str) -> str:
    """How the names of a run's keys begin."""
    return "ac:{" + hashlib.sha256(f"default/{run_id}".encode()).hexdigest()[:24] + "}:"


def read(server: Server, run_id: str) -> Stored | None:
    """The run, if its head is there."""
    prefix = prefix_of(run_id)
    names = {name.decode().removeprefix(prefix) for name in server.ask("KEYS", f"{prefix}*")}
    head: bytes | None = server.ask("GET", f"{prefix}head")
    if head is None:
        return None
    here = prefix + head.decode()
    meta = _pairs(server.ask("HGETALL", f"{here}:meta"))
    return Stored(
        head=head.decode(),
        log=[json.loads(line) for line in server.ask("LRANGE", f"{here}:log", 0, -1)],
        results=_pairs(server.ask("HGETALL", f"{here}:results")),
        meta={name: value.decode() for name, value in meta.items()},
        waste=[json.loads(line) for line in _pairs(server.ask("HGETALL", f"{prefix}waste")).values()],
        names=names,
    )


def _pairs(reply: list[bytes] | dict[bytes, bytes]) -> dict[str, bytes]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


def wrongs(stored: Stored | None, account: Account) -> Iterator[str]:
    """What must not be, of an agent whose last life came to its end and whose server lost nothing it acknowledged."""
    if stored is None:
        yield "the run is gone"
        return
    yield from _wrong_steps(stored, account)
    yield from _wrong_money(stored, account)
    yield from _wrong_keys(stored)


def _wrong_steps(stored: Stored, account: Account) -> Iterator[str]:
    done = stored.done()
    for entry, count in Counter(entry["id"] for entry in stored.log).items():
        if count > 1:
            yield f"the log entry {entry} was applied {count} times"
    for slot in (*PLAIN, *PAID):
        bought, standing = account.bought.get(slot, []), done.get(slot, [])
        if len(standing) != 1:
            yield f"{slot}: {len(standing)} checkpoints stand"
            continue
        receipt = stored.receipt(standing[0])
        if receipt != bought[-1] or set(account.seen.get(slot, [])) != {receipt}:
            yield f"{slot}: bought {bought}, recorded {receipt}, seen {account.seen.get(slot)}"
        carried = {told[2] for told in account.told if told[0] == slot and told[2] is not None}
        if {*bought} - {receipt} != carried - {receipt}:
            yield f"{slot}: bought {bought}, recorded {receipt}, and carried by errors {carried}"
    if done.keys() - {*PLAIN, *PAID}:
        yield f"checkpoints of no step: {sorted(done)}"


def _wrong_money(stored: Stored, account: Account) -> Iterator[str]:
    bills = Counter(stored.bills().values())
    for bill in ("paid", "wasted"):
        if int(stored.meta.get(bill, "0")) != bills[bill] * PRICE:
            yield f"{bill}: the total is {stored.meta.get(bill)}, and the ledger has {bills[bill]} at {PRICE}"
    if bills["paid"] != len(PAID):
        yield f"{bills['paid']} attempts are paid, and {len(PAID)} answers are recorded"
    bought = sum(len(account.bought.get(slot, [])) for slot in PAID)
    known = bills["paid"] + bills["wasted"]
    if not known <= bought <= known + bills["unresolved"]:
        yield f"{bought} answers were bought; the ledger has {dict(bills)}"
    lost = sum(1 for slot, error, _ in account.told if slot in PAID and error != "StepRejected")
    if bills["unresolved"] > lost:
        yield f"{bills['unresolved']} attempts are unresolved, and only {lost} calls had an error"


def _wrong_keys(stored: Stored) -> Iterator[str]:
    kinds = Counter(entry["k"] for entry in stored.log)
    kept = kinds["done"] + sum(1 for entry in stored.log if entry["k"] == "closed" and entry.get("output"))
    if len(stored.results) != kept + 1:
        yield f"{len(stored.results)} results are kept for {kept} entries and the birth mark"
    if kinds["birth"] != 1 or stored.log[0]["k"] != "birth":
        yield f"{kinds['birth']} birth marks"
    if stored.log[-1]["k"] != "closed" or stored.meta["state"] != "completed":
        yield f"it ends with {stored.log[-1]['k']}, in state {stored.meta['state']}"
    own = {"head", "tokens", *(f"{stored.head}:{name}" for name in ("log", "results", "meta"))}
    if stored.names - own - {"waste"}:
        yield f"keys are left behind: {sorted(stored.names - own)}"

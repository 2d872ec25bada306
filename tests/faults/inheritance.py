"""What must be true when a worker that was paused past its lease has gone on, and its heir has finished the run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Done, Intent, LogEntry, Opened, Rejected
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.testing.payments import Payment
from agentcheckpoint.view import RunView


@dataclass(slots=True)
class Pages:
    """What one worker has written into the diary."""

    paid: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    seen: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    ends: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    """``done`` with the result, ``lost``, or ``failed`` with the error."""
    did: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """The items of loops that it has worked on."""
    kept: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """Those that are stored as done, as it was told."""
    points: tuple[int, int] = (0, 0)
    """How many packets and payments there were."""


def read_diary(path: Path) -> dict[str, Pages]:
    pages = {"zombie": Pages(), "heir": Pages()}
    for line in path.read_text().splitlines():
        who, what, slot, value = json.loads(line)
        if what == "paid":
            pages[who].paid.append((slot, value))
        elif what == "seen":
            pages[who].seen.append((slot, value))
        elif what in ("did", "kept"):
            getattr(pages[who], what).add((slot, value))
        elif what == "points":
            pages[who].points = tuple(value)
        else:
            pages[who].ends.append((what, value))
    return pages


def raw(client: redis.Redis, run_id: str) -> dict[str, Any]:
    """The run's data under its current token, and the user's own keys, as they lie on the server."""
    keys, read = RunKeys(run_tag("default", run_id)), client
    head: Any = read.get(keys.head)
    token = head.decode()
    return {
        "head": token,
        "log": read.lrange(keys.log(token), 0, -1),
        "results": read.hgetall(keys.results(token)),
        "meta": read.hgetall(keys.meta(token)),
        "marks": read.hgetall(keys.marks(token, "unordered")),
        "own": read.lrange(_own(keys), 0, -1),
    }


def _own(keys: RunKeys) -> str:
    return f"{{{keys.tag}}}:receipts"


def stale_writes(client: redis.Redis, run_id: str, before: dict[str, Any]) -> list[str]:
    """What has changed under the heir's token since, and what lies under others. Leases run out by themselves."""
    now = raw(client, run_id)
    wrong = [f"stale write: {name} is not what the heir has written" for name in before if before[name] != now[name]]
    keys = RunKeys(run_tag("default", run_id))
    names: Iterable[bytes] = client.scan_iter(match=f"ac:{{{run_tag('default', run_id)}}}:*", count=1000)
    kept = {*keys.data(now["head"]), keys.marks(now["head"], "unordered"), keys.head, keys.tokens, keys.waste}
    orphans = {name.decode() for name in names} - kept
    return [*wrong, *(f"{name} was not swept" for name in sorted(orphans) if not name.endswith(":lease"))]


def after_all(url: str, run_id: str, diary: dict[str, Pages], payments: Sequence[Payment]) -> list[str]:
    """What is wrong when both have ended.

    Args:
        payments: what the provider was paid, by all runs.
    """
    view, zombie, heir = ac.get(run_id, store=url), diary["zombie"], diary["heir"]
    wrong = [
        *_ends(zombie, heir),
        *_results(view, diary),
        *_money(view, diary, payments),
        *_heirs(view, heir, payments),
    ]
    wrong += [f"the heir worked on {item}, which was stored as done" for item in sorted(zombie.kept & heir.did)]
    wrong += [f"the cursor of {cursor.slot} is left" for cursor in view.cursors]
    return wrong


def changed_twice(client: redis.Redis, run_id: str, heir: Pages) -> list[str]:
    """Whether the user's own key was not changed once, by the transaction whose result was recorded."""
    recorded = [value.encode() for slot, value in heir.seen if slot == "count"]
    receipts: Any = client.lrange(_own(RunKeys(run_tag("default", run_id))), 0, -1)
    return [] if receipts == recorded else [f"the user's own key was changed by {receipts}, and recorded is {recorded}"]


def _ends(zombie: Pages, heir: Pages) -> list[str]:
    wrong = [] if [what for what, _ in heir.ends] == ["done"] else [f"the heir ended with {heir.ends}"]
    if [what for what, _ in zombie.ends] not in (["lost"], ["done"]):
        wrong.append(f"the zombie ended with {zombie.ends}")
    elif zombie.ends[0][0] == "done" and zombie.ends != heir.ends:
        wrong.append("the zombie returned other results than the heir")
    return wrong


def _results(view: RunView, diary: dict[str, Pages]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for page in diary.values():
        for slot, value in page.seen:
            seen.setdefault(slot, set()).add(json.dumps(value))
    wrong = [f"{slot} had {len(values)} results: {values}" for slot, values in seen.items() if len(values) > 1]
    recorded = Counter(done.slot for done in _standing(view.entries))
    return [*wrong, *(f"{slot} is recorded {n} times" for slot, n in recorded.items() if n > 1)]


def _money(view: RunView, diary: dict[str, Pages], payments: Sequence[Payment]) -> list[str]:
    """Each payment is one entry, with its amount: nobody died, so nothing is left unresolved."""
    wrong: list[str] = []
    costs = {(entry.slot, entry.cost): entry.bill for entry in view.ledger}
    bought = Counter(entry.slot for entry in view.ledger if entry.bill == "paid")
    for who, pages in diary.items():
        for slot, tokens in pages.paid:
            if costs.get((slot, tokens * 1000)) not in ("paid", "wasted"):
                wrong.append(f"what the {who} paid for {slot} is not in the ledger")
    wrong += [f"{slot} has {n} paid entries" for slot, n in bought.items() if n != 1]
    wrong += [f"{entry.slot} is left unresolved" for entry in view.ledger if entry.bill == "unresolved"]
    intents = {entry.id for intent in _of(view.entries, Intent) for entry in intent.entries}
    for payment in payments:
        entry = next((entry for entry in view.ledger if entry.id == payment.client_request_id), None)
        if entry is not None and (entry.cost != payment.cost or entry.bill not in ("paid", "wasted")):
            wrong.append(f"payment {payment.n} is {entry.bill}, {entry.cost} in the ledger and was {payment.cost}")
    wrong += [
        f"{entry.slot} was paid by a worker whose intent was refused"
        for entry in view.ledger
        if entry.id not in intents and entry.bill != "not_billed"
    ]
    return wrong


def _heirs(view: RunView, heir: Pages, payments: Sequence[Payment]) -> list[str]:
    """The heir pays for nothing that was recorded when he came, and for nothing twice."""
    claims = [place for place, entry in enumerate(view.entries) if isinstance(entry, Opened)]
    if len(claims) != 2:
        return [f"the run was opened {len(claims)} times"]
    inherited = {done.slot for done in _standing(view.entries[: claims[1]])}
    paid = Counter(slot for slot, _ in heir.paid)
    wrong = [f"the heir paid for {slot}, which was recorded" for slot in inherited.intersection(paid)]
    wrong += [f"the heir paid {n} times for {slot}" for slot, n in paid.items() if n > 1]
    mine = {entry.id for intent in _of(view.entries[claims[1] :], Intent) for entry in intent.entries}
    bills = {entry.id: entry.bill for entry in view.ledger}
    for payment in payments:
        earlier = [each for each in payments if each.digest == payment.digest and each.n < payment.n]
        if payment.client_request_id in mine and any(bills.get(e.client_request_id) == "paid" for e in earlier):
            wrong.append(f"the heir asked again for what was recorded: payment {payment.n}")
    return wrong


def _standing(entries: Iterable[LogEntry]) -> list[Done]:
    """The records that were not refused."""
    kept = list(entries)
    refused = {entry.target for entry in kept if isinstance(entry, Rejected)}
    return [entry for entry in kept if isinstance(entry, Done) and entry.id not in refused]


def _of(entries: Iterable[LogEntry], kind: type[Intent]) -> list[Intent]:
    return [entry for entry in entries if isinstance(entry, kind)]

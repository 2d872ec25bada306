"""What must be true when an agent is done at last: its store, its diary and its provider tell one story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.payments import Payment

from .agents import Agent, Op
from .deeds import TRIES
from .diary import Account
from .world import MONEY, World, torn


@dataclass(frozen=True, slots=True)
class Clean:
    """What an agent did when nothing went wrong: the measure of what it does when something does."""

    slots: list[str]
    commands: int
    requests: int
    points: int


PAYS_NOTHING = frozenset(
    {"ask", "stream", "short", "rejected", "drawn", "slept", "answered", "stumbled", "cursor", "transact"}
)
"""In its own process."""
TIMES = {"refused": 2, "failing": 2, "retried": TRIES}
"""How often an op pays where nothing goes wrong, if not once."""


def paid_labels(op: Op) -> list[str]:
    """Under which labels an op pays in its own process."""
    if op.kind == "keyed":
        return [f"{op.label}/{n}" for n in range(2)]
    if op.kind == "loop":
        return [f"{op.label}/item"]
    return [] if op.kind in PAYS_NOTHING else [op.label]


def bought_again(before: World | None, then: Account, now: Account) -> list[str]:
    """Payments for steps whose checkpoints stood in the store when their worker died."""
    recorded = before.labelled() if before is not None else {}
    return [
        f"{label} was paid again though its checkpoint stood in {slot}"
        for label, (slot, _) in recorded.items()
        if len(now.paid[label]) > len(then.paid[label])
    ]


def unsettled(
    agent: Agent,
    clean: Clean,
    world: World,
    account: Account,
    payments: Sequence[Payment],
    *,
    deaths: int,
    cancelled: bool = False,
) -> list[str]:
    """What contradicts what. ``payments`` are the provider's; the agent's own are in its diary.

    Args:
        cancelled: it came to its end before it was done.
    """
    wrong = [*torn(world), *_ended(clean, world, account, cancelled=cancelled)]
    for label, values in account.seen.items():
        if any(value != values[0] for value in values):
            wrong.append(f"{label} was seen as {values}")
    for slot, answers in account.answers.items():
        label = slot.rpartition("[")[2].rstrip("]")
        wrong += [
            f"{slot}: the answer was {answers[0]}, and {seen} was seen"
            for seen in account.seen[label][:1]
            if seen != answers[0]
        ]
    stood = world.labelled()
    for op in agent.leaves():
        for label in paid_labels(op):
            if label in stood or not cancelled:
                wrong += _unlike(op, label, stood, world, account, deaths)
    entries = _provider_entries(world)
    accounts = settle(payments, [LedgerEntry.model_validate(e, strict=False) for e in entries])
    wrong += accounts.problems
    known = sum(entry["cost"] for entry in entries if entry["bill"] in MONEY)
    most = known + sum(entry["bound"] for entry in entries if entry["bill"] == "unresolved")
    if not known <= accounts.billed <= most:
        wrong.append(f"the provider was paid {accounts.billed}; the ledger says {known} to {most}")
    if accounts.paid_twice:
        wrong.append(f"{accounts.paid_twice} answers were bought again after they had been committed")
    cut_short = any(op.kind == "short" for op in agent.leaves())
    if not deaths and accounts.repaid_in_window and not account.errors and not cut_short:
        wrong.append("an answer was bought again though nobody died")
    return wrong


def _ended(clean: Clean, world: World, account: Account, *, cancelled: bool) -> list[str]:
    """What is wrong with how it has ended."""
    state, wrong = "cancelled" if cancelled else "completed", list[str]()
    if world.meta.get("state") != state or world.leased:
        wrong.append(f"the run is {world.meta.get('state')}, {'leased' if world.leased else 'not leased'}")
    if not cancelled and world.slots != clean.slots:
        wrong.append(f"its slots are {world.slots}, and without faults they are {clean.slots}")
    if not set(world.slots) <= set(clean.slots):
        wrong.append(f"its slots are {world.slots}, and no others than {clean.slots} were to come")
    if sum(entry["k"] == "opened" for entry in world.log) > account.attempts:
        wrong.append(f"it was opened more often than it was tried ({account.attempts})")
    if (not account.ends and not cancelled) or any(end != account.ends[0] for end in account.ends):
        wrong.append(f"it returned {account.ends}")
    return wrong


def _unlike(
    op: Op, label: str, stood: dict[str, tuple[str, Any]], world: World, account: Account, deaths: int
) -> list[str]:
    """Where one label's payments are not what the store says of them."""
    if label not in stood:
        return [f"{label} has no checkpoint"]
    slot, value = stood[label]
    payments = account.paid[label]
    wrong = [] if value["receipt"] in payments else [f"{label}: what is recorded was never paid for"]
    again = 0 if op.kind == "once" else deaths
    if len(payments) > TIMES.get(op.kind, 1) + again:
        wrong.append(f"{label} was paid {len(payments)} times in {deaths + 1} lives")
    if op.kind not in ("paid", "refused"):
        return wrong
    bills = [entry["bill"] for entry in world.ledger.values() if entry["slot"] == slot]
    settled, open_ = sum(bill in ("paid", "wasted") for bill in bills), bills.count("unresolved")
    if not settled <= len(payments) <= settled + open_:
        wrong.append(f"{label} was paid {len(payments)} times; the ledger says {bills}")
    if not deaths and open_:
        wrong.append(f"{label}: an attempt is unresolved though nobody died")
    return wrong


def _provider_entries(world: World) -> list[dict[str, Any]]:
    """Those of the wrapped client's calls: others are not in the provider's journal."""
    own = {"think"}
    return [entry for entry in world.ledger.values() if entry["slot"].rpartition("/")[2].partition("#")[0] not in own]

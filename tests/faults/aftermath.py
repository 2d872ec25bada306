"""What must be true after an agent was interrupted, and after the life that finished its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import agentcheckpoint as ac
from agentcheckpoint import current
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.core.models import Closed, Done, Failed, LedgerEntry, Rejected
from agentcheckpoint.store.effects import Packet, Protocol
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.payments import Payment
from agentcheckpoint.view import RunView

from .outside import World


def after_first_life(world: World, payments: Sequence[Payment], failed: bool = False) -> tuple[list[str], set[str]]:
    """What is wrong after a life that was interrupted, and the slots that it has left recorded.

    Args:
        payments: what the provider was paid by it.
        failed: it was interrupted by an ordinary exception, which is a failure of the code that it came through.
    """
    wrong = [*_half_known(world)]
    try:
        view = ac.get(world.run_id, store=world.url)
    except ac.RunNotFound:
        return [*wrong, *(["the run was entered and is not there"] if world.entered or world.paid else [])], set()
    ended = [entry for entry in view.entries if isinstance(entry, Closed)]
    if view.state != ("retryable" if failed else "interrupted") and not (world.left and view.state == "completed"):
        wrong.append(f"its state is {view.state!r}")
    if len(ended) != 1:
        wrong.append(f"its end is noted {len(ended)} times")
    if _is_leased(world):
        wrong.append("its lease was not given back")
    if not failed:
        wrong += [f"{entry.slot} is recorded as failed" for entry in view.entries if isinstance(entry, Failed)]
    return [*wrong, *_unbooked(world, view, payments)], set(_recorded(view))


def after_last_life(world: World, recorded: set[str], before: list[str], payments: Sequence[Payment]) -> list[str]:
    """What is wrong after a life that nobody interrupted.

    Args:
        recorded: the slots that were recorded when it began.
        before: what had been paid then.
        payments: what the provider was paid by all lives.
    """
    view = ac.get(world.run_id, store=world.url)
    wrong = [*_half_known(world), *_unbooked(world, view, payments)]
    if view.state != "completed":
        wrong.append(f"its state is {view.state!r} after its last life")
    again = recorded.intersection(world.paid[len(before) :])
    wrong += [f"{slot} was paid again after its commit" for slot in again]
    slots = _recorded(view)
    wrong += [f"{slot} is recorded {n} times" for slot, n in Counter(slots).items() if n > 1]
    paid = Counter(entry.slot for entry in view.ledger if entry.bill == "paid")
    wrong += [f"{slot} has {paid[slot]} paid entries" for slot in set(paid) | set(world.paid) if paid[slot] != 1]
    accounts = settle(payments, view.ledger)
    if accounts.paid_twice:
        wrong.append(f"{accounts.paid_twice} model calls were paid again after their commit")
    return wrong


def _recorded(view: RunView) -> list[str]:
    """The slots that have a record, in their order."""
    refused = {entry.target for entry in view.entries if isinstance(entry, Rejected)}
    return [entry.slot for entry in view.entries if isinstance(entry, Done) and entry.id not in refused]


def _half_known(world: World) -> list[str]:
    """What an attempt that is over has left open in this process."""
    attempt, wrong = world.attempt, list[str]()
    if attempt.open or current.is_open(attempt.instance):
        wrong.append("the attempt counts as open")
    if attempt.fence.settlement() is not None:
        wrong.append("a settlement is left under way")
    if attempt.before_next_call:
        wrong.append("a stream is left open")
    if attempt.journal._keyed:
        wrong.append(f"a call of {list(attempt.journal._keyed)} is left under way")
    return wrong


def _unbooked(world: World, view: RunView, payments: Sequence[Payment]) -> list[str]:
    """Payments that the ledger does not know, by the word of who was paid."""
    booked: Counter[str] = Counter(entry.slot for entry in view.ledger if _may_be_billed(entry))
    mine = Counter(world.paid)
    missing = [
        f"{slot} was paid {n} times and is booked {booked[slot]}" for slot, n in mine.items() if booked[slot] < n
    ]
    bought = [entry for entry in view.ledger if entry.slot not in mine]
    return [*missing, *settle(payments, bought).problems] if payments else missing


def _may_be_billed(entry: LedgerEntry) -> bool:
    return entry.bill != "not_billed"


def _is_leased(world: World) -> bool:
    keys = RunKeys(run_tag("default", world.run_id))

    def look() -> Protocol[bool]:
        (head,) = yield Packet((("GET", keys.head),))
        (there,) = yield Packet((("EXISTS", keys.lease(head.decode())),))
        return bool(there)

    return ac.connect(world.url).run(look())

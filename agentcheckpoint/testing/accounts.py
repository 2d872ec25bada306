"""Settles a run's ledger with the journal of the provider that was paid: the provider's word counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentcheckpoint.core.ledger import fold_entries, money
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.testing.payments import Payment


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the provider was paid, and what the ledger says of it. All amounts in nano-dollars.

    Attributes:
        provider_calls: how many payments the provider has booked.
        billed: their sum.
        spent: what of it the ledger calls paid or wasted.
        in_window: what of it the ledger calls unresolved: its payer died before it could commit.
        paid_twice: payments for a request whose answer had been bought and committed.
        repaid_in_window: payments for a request whose earlier payment is unresolved: bought again, as nobody has the
            answer.
        problems: where ledger and journal contradict each other; empty if they agree.
    """

    provider_calls: int
    billed: int
    spent: int
    in_window: int
    paid_twice: int
    repaid_in_window: int
    problems: tuple[str, ...]

    @property
    def settled(self) -> bool:
        """Nothing was paid twice, and nothing is contradicted."""
        return not self.paid_twice and not self.problems


def settle(payments: Sequence[Payment], entries: Iterable[LedgerEntry], *, amounts: bool = True) -> Accounts:
    """Compare what a provider was paid with the ledger of the run that paid it.

    The provider's requests are told apart by their bodies: the run must not make two steps of equal requests, and must
    be the only one that this journal knows.

    Args:
        payments: the provider's journal, once nobody pays any more.
        entries: the run's ledger, or all ledger entries of its log in their order.
        amounts: whether both have to know the same prices; else an answer's cost may differ.
    """
    ledger = fold_entries(entries)
    bought: dict[str, list[Payment]] = {}
    for payment in sorted(payments, key=lambda payment: payment.n):
        bought.setdefault(payment.digest, []).append(payment)
    twice = again = 0
    for same in bought.values():
        for index in range(1, len(same)):
            before = {_bill(ledger, payment) for payment in same[:index]}
            twice += "paid" in before
            again += "paid" not in before and "unresolved" in before
    costs = {bill: _sum(ledger, payments, bill) for bill in ("paid", "wasted", "unresolved")}
    return Accounts(
        provider_calls=len(payments),
        billed=sum(payment.cost for payment in payments),
        spent=costs["paid"] + costs["wasted"],
        in_window=costs["unresolved"],
        paid_twice=twice,
        repaid_in_window=again,
        problems=tuple([*_unlike_payments(ledger, payments, amounts), *_unpaid_entries(ledger, payments)]),
    )


def paid_before(payments: Iterable[Payment], entries: Iterable[LedgerEntry], n: int) -> int:
    """What of the first ``n`` payments bought an answer that was committed, in nano-dollars: a restart without
    checkpoints would have paid it again.
    """
    ledger = fold_entries(entries)
    return _sum(ledger, (payment for payment in payments if payment.n <= n), "paid")


def _bill(ledger: dict[str, LedgerEntry], payment: Payment) -> str | None:
    entry = ledger.get(payment.client_request_id)
    return None if entry is None else entry.bill


def _sum(ledger: dict[str, LedgerEntry], payments: Iterable[Payment], bill: str) -> int:
    return sum(payment.cost for payment in payments if _bill(ledger, payment) == bill)


def _unlike_payments(ledger: dict[str, LedgerEntry], payments: Iterable[Payment], amounts: bool) -> Iterable[str]:
    """Payments that the ledger does not know, or knows otherwise."""
    for payment in payments:
        entry = ledger.get(payment.client_request_id)
        name = f"payment {payment.n} of {money(payment.cost)} ({payment.endpoint}, {payment.request_id})"
        if entry is None:
            yield f"{name} is in no ledger entry"
        elif entry.bill == "not_billed":
            yield f"{name} was billed; ledger entry {entry.id} says it was not"
        elif amounts and entry.bill in ("paid", "wasted") and entry.cost != payment.cost:
            yield f"{name} is {money(entry.cost)} in ledger entry {entry.id}"


def _unpaid_entries(ledger: dict[str, LedgerEntry], payments: Iterable[Payment]) -> Iterable[str]:
    """Ledger entries that the provider does not know, or knows more than once."""
    times: dict[str, int] = {}
    for payment in payments:
        times[payment.client_request_id] = times.get(payment.client_request_id, 0) + 1
    for entry in ledger.values():
        paid = times.get(entry.id, 0)
        if paid > 1:
            yield f"ledger entry {entry.id} ({entry.slot}) was paid {paid} times"
        elif not paid and entry.bill in ("paid", "wasted"):
            yield f"ledger entry {entry.id} ({entry.slot}) is {entry.bill}; the provider was not paid for it"

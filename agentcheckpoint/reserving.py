"""The budgets of one attempt of a run: what is kept free for its calls under way, and what is let go again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agentcheckpoint.core.budget import (
    Ask,
    Budget,
    Exceeded,
    Sums,
    Tally,
    over,
    tally_ledger,
    uncounted,
    window_of,
)
from agentcheckpoint.core.journal import Call
from agentcheckpoint.core.ledger import fold_entries
from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.core.reservations import Reservation
from agentcheckpoint.errors import StoreError
from agentcheckpoint.store.budgets import HELD_MS, Account, reserve, settle
from agentcheckpoint.store.effects import Protocol


@dataclass(slots=True)
class _Hold:
    """What is kept free for one attempt to pay."""

    call: Call
    sums: Sums
    reservation: Reservation
    accounts: dict[Budget, Account] = field(default_factory=dict[Budget, Account])
    """The shared budgets that it is reserved in."""


class Reservations:
    """The run's own budgets, and the shared ones that it takes part in.

    A run has one worker, so its own budgets need no more than a lock and the ledger that this worker knows.

    Args:
        budgets: what holds for the run.
        namespace, run_id: which run.
    """

    def __init__(self, budgets: Sequence[Budget], namespace: str, run_id: str) -> None:
        self.budgets = tuple(budgets)
        self._own = tuple(budget for budget in budgets if budget.name is None)
        self._shared = tuple(budget for budget in budgets if budget.name is not None)
        self._namespace, self._run_id = namespace, run_id
        self._held: dict[str, _Hold] = {}
        self._looked_back = False
        self._lock = threading.Lock()

    @property
    def limit(self) -> int | None:
        """The lowest ceiling of the run's own in nano-dollars."""
        return min((limits["usd"] for budget in self._own if "usd" in (limits := budget.limits)), default=None)

    def reserve(
        self, call: Call, entry: LedgerEntry, ask: Ask, ledger: Iterable[LedgerEntry], now_ms: int, *, spent: bool
    ) -> Protocol[Exceeded | None]:
        """Keeps room in every budget for one attempt to pay. Asked again for it, it is kept once.

        Args:
            call: the attempt is under way until this is over.
            entry: the attempt.
            ask: its worst case.
            ledger: the run's, with all that is known by now.
            now_ms: the store's clock.
            spent: the money is gone already, so it is counted whatever it breaks.

        Returns:
            ``None``: it is reserved. Else in which budget there is no room, and nothing is kept in any.

        Raises:
            StoreError: a shared budget could not be asked.
        """
        until = now_ms + HELD_MS
        kept = Reservation(
            state="reserved",
            usd=ask.sums.usd,
            tokens=ask.sums.tokens,
            namespace=self._namespace,
            run=self._run_id,
            step=call.slot,
            until=until,
        )
        with self._lock:
            refused = self._keep(call, entry, ask, kept, ledger, spent)
        if refused is not None:
            return refused
        hold = self._held[entry.id]
        for budget in self._shared:
            account = hold.accounts.get(budget) or self._account(budget, now_ms)
            found = yield from reserve(account, entry.id, kept, {} if spent else budget.limits, now_ms)
            if found is not None:
                yield from self._let_go(entry.id, hold)
                return self._exceeded(budget, found, call, ask)
            hold.accounts[budget] = account
        return None

    def gaps(self, ledger: Iterable[LedgerEntry]) -> int:
        """How many attempts of the past the run's own budgets cannot count; told once."""
        if self._looked_back:
            return 0
        self._looked_back = True
        return uncounted(ledger, (kind for budget in self._own for kind in budget.limits))

    def is_kept(self, entry_id: str, now_ms: int) -> bool:
        """Whether nobody can have given the attempt's room to others by now."""
        hold = self._held.get(entry_id)
        return hold is None or not hold.accounts or now_ms <= hold.reservation.until

    def settle(self, entries: Iterable[LedgerEntry]) -> Protocol[None]:
        """Tells the shared budgets what became of attempts. What cannot be told now is read from the ledger later."""
        for entry in entries:
            hold = self._held.get(entry.id)
            if hold is None or entry.bill == "unresolved":
                continue
            outcome = hold.reservation.outcome(entry)
            for budget, account in list(hold.accounts.items()):
                try:
                    yield from settle(account, entry.id, outcome)
                except StoreError:
                    continue  # whoever needs the room asks this run's ledger
                hold.accounts.pop(budget, None)

    def _keep(
        self, call: Call, entry: LedgerEntry, ask: Ask, kept: Reservation, ledger: Iterable[LedgerEntry], spent: bool
    ) -> Exceeded | None:
        """Holding the lock: looks into the run's own budgets, and keeps the room."""
        self._held = {other: hold for other, hold in self._held.items() if not hold.call.over}
        folded = {one.id: one for one in ledger if one.id != entry.id}
        found = tally_ledger(folded.values(), {other for other, hold in self._held.items() if hold.call is not call})
        waiting = (hold.sums for other, hold in self._held.items() if other != entry.id and other not in folded)
        found = Tally(found.paid, found.wasted, found.unresolved, sum(waiting, found.reserved))
        for budget in () if spent else self._own:
            if over(budget.limits, found.total + ask.sums) is not None:
                return self._exceeded(budget, found, call, ask)
        known = self._held.get(entry.id)
        self._held[entry.id] = _Hold(call, ask.sums, kept, {} if known is None else known.accounts)
        return None

    def _let_go(self, entry_id: str, hold: _Hold) -> Protocol[None]:
        """The call is not made after all."""
        nothing = LedgerEntry(id=entry_id, bill="not_billed", slot=hold.call.slot)
        yield from self.settle([nothing])
        with self._lock:
            self._held.pop(entry_id, None)

    def _account(self, budget: Budget, now_ms: int) -> Account:
        return Account(self._namespace, str(budget.name), window_of(budget.window, now_ms), self._run_id)

    def _exceeded(self, budget: Budget, found: Tally, call: Call, ask: Ask) -> Exceeded:
        kind = over(budget.limits, found.total + ask.sums)
        assert kind is not None
        return Exceeded(
            budget=budget,
            kind=kind,
            limit=budget.limits[kind],
            paid=found.paid.of(kind),
            wasted=found.wasted.of(kind),
            unresolved=found.unresolved.of(kind),
            reserved=found.reserved.of(kind),
            asked=ask.sums.of(kind),
            run_id=self._run_id,
            step=call.slot,
            body=ask.body,
        )


def known_ledger(*parts: Iterable[LedgerEntry], waste: Iterable[LedgerEntry]) -> Iterable[LedgerEntry]:
    """One entry for each attempt, the later part over the earlier."""
    return fold_entries((entry for part in parts for entry in part), waste).values()

"""Shared budgets: reservations by attempt id, in one hash for each budget and window.

Every change is made under WATCH: look, decide, and write in one EXEC that is applied only if nobody wrote since the
look. So whoever is granted room has seen all that was granted before, and nobody overspends together. It also makes a
lost reply harmless: the next look tells whether the packet was applied, and one that is still on its way is void as
soon as anything else is written.

The sums in field ``@`` are a cache of the reservations, beside their number. They may grant; only the reservations
themselves may refuse, and on that occasion those whose worker may be dead are settled from their run's ledger.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from pydantic import ValidationError

from agentcheckpoint.core import ids
from agentcheckpoint.core.budget import Kind, Sums, Tally, over
from agentcheckpoint.core.ledger import fold_entries, logged_money
from agentcheckpoint.core.models import SCHEMA, LedgerEntry
from agentcheckpoint.core.reservations import OPEN, Book, Reservation, tally
from agentcheckpoint.errors import CheckpointCorrupt, CheckpointsLost, RunNotFound, SchemaTooNew, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, executed
from agentcheckpoint.store.keys import BIRTH, RunKeys, budget_key
from agentcheckpoint.store.loading import corrupt
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.reading import snapshot
from agentcheckpoint.store.refusals import NotNow, raise_refusal

R = TypeVar("R", Book, Reservation)

RIVALS = 64
"""How often in a row others may have written first: each time, one of them got what he wanted."""
RIVAL_PAUSE = 0.01
"""Seconds that one who was forestalled waits at most."""
HELD_MS = 60_000
"""How long a reservation stands before whoever needs room asks the ledger of its run; milliseconds."""
GRACE_MS = 5_000
"""By so much two workers' reckoning of the server's clock may differ."""


@dataclass(frozen=True, slots=True)
class Account:
    """A shared budget in one window; ``run_id`` is on whose behalf it is asked, for messages."""

    namespace: str
    name: str
    window: str
    run_id: str

    @property
    def key(self) -> str:
        return budget_key(ids.budget_tag(self.namespace, self.name), self.window)

    @property
    def book(self) -> Book:
        return Book(namespace=self.namespace, name=self.name, window=self.window)


@dataclass(frozen=True, slots=True)
class _Run:
    """Whose ledger is asked."""

    namespace: str
    run_id: str

    @property
    def keys(self) -> RunKeys:
        return RunKeys(ids.run_tag(self.namespace, self.run_id))


@dataclass(slots=True)
class _Page:
    """What a look found: the sums, and the reservation in question; or all of them."""

    book: Book
    trusted: bool
    """The number of reservations is what the book says."""
    known: dict[str, Reservation]

    def with_changes(self, changes: Mapping[str, Reservation]) -> Book:
        sums, entries = self.book.sums, self.book.entries
        for attempt_id, new in changes.items():
            old = self.known.get(attempt_id)
            sums += new.sums - (Sums() if old is None else old.sums)
            entries += old is None
        return self.book.with_sums(sums, entries)


@dataclass(slots=True)
class _Decision:
    """What to write, and what to answer once it is written."""

    page: _Page
    changes: dict[str, Reservation] = field(default_factory=dict[str, Reservation])
    refused: Tally | None = None


_Decide: TypeAlias = Callable[[_Page, int], Protocol[_Decision]]


def reserve(
    account: Account, attempt_id: str, wanted: Reservation, limits: Mapping[Kind, int], now_ms: int
) -> Protocol[Tally | None]:
    """Keeps room for an attempt. Asked again for the same attempt, it is one reservation.

    Args:
        account: which budget.
        attempt_id: the id of the attempt's ledger entry.
        wanted: its worst case.
        limits: the ceilings, as the caller names them; without any it is entered whatever it breaks.
        now_ms: the store's clock.

    Returns:
        ``None``: it is reserved. Else what stands there already: there is no room.

    Raises:
        CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable: it may be reserved; then it comes back.
    """

    def decide(page: _Page, patience: int) -> Protocol[_Decision]:
        mine = {attempt_id: wanted}
        if page.trusted and over(limits, page.with_changes(mine).sums) is None:
            return _Decision(page, mine)
        page = yield from _read_all(account, patience)
        overdue = {
            other: one
            for other, one in page.known.items()
            if other != attempt_id and one.state in OPEN and one.until + GRACE_MS < now_ms
        }
        found = yield from _look_up(overdue, now_ms)
        if over(limits, page.with_changes({**found, **mine}).sums) is None:
            return _Decision(page, {**found, **mine})
        others = {other: one for other, one in {**page.known, **found}.items() if other != attempt_id}
        return _Decision(page, found, tally(others.values()))

    return (yield from _amend(account, attempt_id, decide))


def settle(account: Account, attempt_id: str, outcome: Reservation) -> Protocol[None]:
    """Enters what became of an attempt. What is settled is never opened again.

    Raises:
        CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """

    def decide(page: _Page, _patience: int) -> Protocol[_Decision]:
        known = page.known.get(attempt_id)
        if known == outcome or (known is not None and known.state not in OPEN and outcome.state in OPEN):
            return _Decision(page)
        if not page.trusted:
            page = yield from _read_all(account, _patience)
        return _Decision(page, {attempt_id: outcome})

    yield from _amend(account, attempt_id, decide)


def _amend(account: Account, attempt_id: str, decide: _Decide) -> Protocol[Tally | None]:
    trouble: Exception = NotNow("others changed it each time")
    patience = Patience()
    for times, pause in patience.tries():
        try:
            for _ in range(RIVALS):
                page = yield from _look(account, attempt_id, times)
                decision = yield from decide(page, times)
                if not decision.changes or (yield from _write(account, decision, times)):
                    return decision.refused
                yield Pause(random.uniform(0, RIVAL_PAUSE))
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
        yield Pause(pause)
    raise StoreUnavailable(
        f"run {account.run_id!r}: budget {account.name!r} could not be asked: {trouble}. The "
        "call was not made. What may have been reserved comes back by itself.",
        run_id=account.run_id,
    )


def _look(account: Account, attempt_id: str, patience: int) -> Protocol[_Page]:
    key = account.key
    commands: tuple[Command, ...] = (("WATCH", key), ("HGET", key, BIRTH), ("HLEN", key), ("HGET", key, attempt_id))
    replies = yield Packet(commands, held=True, patience=patience)
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(account.run_id, commands, replies)
    _, book, length, known = replies
    if book is None:
        return _Page(account.book, length == 0, {})
    page = _Page(_parse_book(account, book), False, {})
    page.trusted = length == page.book.entries + 1
    if known is not None:
        page.known[attempt_id] = _parse(account, Reservation, known)
    return page


def _read_all(account: Account, patience: int) -> Protocol[_Page]:
    """Every reservation, and the sums of just these; what was looked at is still watched."""
    commands: tuple[Command, ...] = (("HGETALL", account.key),)
    replies = yield Packet(commands, held=True, patience=patience)
    if isinstance(replies[0], Refusal):
        raise_refusal(account.run_id, commands, replies)
    fields: dict[bytes, bytes] = dict(zip(replies[0][::2], replies[0][1::2], strict=True))
    book = fields.pop(BIRTH.encode(), None)
    known = {name.decode(): _parse(account, Reservation, line) for name, line in fields.items()}
    page = _Page(account.book if book is None else _parse_book(account, book), True, known)
    page.book = page.book.with_sums(tally(known.values()).total, len(known))
    return page


def _write(account: Account, decision: _Decision, patience: int) -> Protocol[bool]:
    """Whether it was applied; if not, somebody wrote since the look."""
    key = account.key
    commands: list[Command] = [("MULTI",)]
    for attempt_id, new in decision.changes.items():
        verb = "HSET" if attempt_id in decision.page.known else "HSETNX"
        commands.append((verb, key, attempt_id, new.model_dump_json()))
    book = decision.page.with_changes(decision.changes)
    commands += [("HSET", key, BIRTH, book.model_dump_json()), ("EXEC",)]
    replies = yield Packet(tuple(commands), held=True, patience=patience)
    if isinstance(replies[-1], Refusal):
        raise_refusal(account.run_id, commands, replies)
    outcome = executed(replies)
    if outcome is not None and any(isinstance(reply, Refusal) for reply in outcome):
        raise_refusal(account.run_id, commands[1:-1], outcome)
    return outcome is not None


def _look_up(overdue: Mapping[str, Reservation], now_ms: int) -> Protocol[dict[str, Reservation]]:
    """What the ledgers say of attempts whose worker may be dead.

    A request leaves only if its intent was stored in time, so an attempt that no ledger knows was never made. One that
    is unresolved there keeps its bound, and so does one whose ledger is gone.
    """
    found: dict[str, Reservation] = {}
    ledgers: dict[_Run, Mapping[str, LedgerEntry] | None] = {}
    for attempt_id, one in overdue.items():
        run = _Run(one.namespace, one.run)
        if run not in ledgers:
            ledgers[run] = yield from _ledger(run)
        ledger = ledgers[run]
        later = one.model_copy(update={"state": "unresolved", "until": now_ms + HELD_MS})
        if ledger is None:
            found[attempt_id] = later
        elif attempt_id not in ledger:
            found[attempt_id] = one.model_copy(update={"state": "released", "usd": 0, "tokens": 0})
        else:
            found[attempt_id] = later if ledger[attempt_id].bill == "unresolved" else one.outcome(ledger[attempt_id])
    return found


def _ledger(run: _Run) -> Protocol[Mapping[str, LedgerEntry] | None]:
    """The run's ledger; ``None``: it was deleted, or cannot be read."""
    try:
        loaded = yield from snapshot(run)
    except (RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew):
        return None
    return fold_entries(logged_money(loaded.entries), loaded.waste)


def _parse_book(account: Account, line: bytes) -> Book:
    book = _parse(account, Book, line)
    if (book.namespace, book.name, book.window) != (account.namespace, account.name, account.window):
        raise corrupt(account.run_id, account.key, f"it belongs to budget {book.name!r} in {book.namespace!r}")
    return book


def _parse(account: Account, kind: type[R], line: bytes) -> R:
    try:
        record = kind.model_validate_json(line)
    except ValidationError:
        raise corrupt(account.run_id, account.key, f"it holds something that is no {kind.__name__}") from None
    if record.v > SCHEMA:
        raise SchemaTooNew(
            f"run {account.run_id!r}: budget {account.name!r} was written with schema {record.v}; this version knows "
            f"schema {SCHEMA}. Upgrade agentcheckpoint-redis here.",
            run_id=account.run_id,
        )
    return record

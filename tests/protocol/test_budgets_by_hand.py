"""Shared budgets, packet by packet: rivals, lost replies, packets that come late, sums that lie, workers that died."""

from __future__ import annotations

from typing import Any

import pytest
from hand import Hand, a_load

import agentcheckpoint as ac
from agentcheckpoint.core.budget import Kind, Sums, Tally
from agentcheckpoint.core.models import Bill, Intent, LedgerEntry
from agentcheckpoint.core.reservations import Book, Reservation, State, tally
from agentcheckpoint.store import budgets, patience
from agentcheckpoint.store.budgets import GRACE_MS, HELD_MS, Account, reserve, settle
from agentcheckpoint.store.effects import Lost, NotSent, Refusal

HERE = Account("default", "team", "2026-11-24", "r")
NOW = 1_000_000
LIMIT: dict[Kind, int] = {"usd": 100}
LOOK = ["WATCH", "HGET", "HLEN", "HGET"]


def kept(usd: int, state: State = "reserved", until: int = NOW + HELD_MS, run: str = "r") -> Reservation:
    return Reservation(state=state, usd=usd, tokens=0, namespace="default", run=run, step="s", until=until)


def book(**others: Reservation) -> bytes:
    return HERE.book.with_sums(tally(others.values()).total, len(others)).model_dump_json().encode()


def line(one: Reservation) -> bytes:
    return one.model_dump_json().encode()


def looked(hand: Hand, mine: Reservation | None = None, **others: Reservation) -> Hand:
    """Answers a look, by the sums alone."""
    assert hand.words == LOOK and hand.effect.held
    everyone = {**others, **({} if mine is None else {"mine": mine})}
    if not everyone:
        return hand.reply(b"OK", None, 0, None)
    return hand.reply(b"OK", book(**everyone), len(everyone) + 1, None if mine is None else line(mine))


def read(hand: Hand, **others: Reservation) -> Hand:
    """Answers a reading of all reservations."""
    assert hand.words == ["HGETALL"] and hand.effect.held
    flat: list[bytes] = [b"@", book(**others)]
    for name, one in others.items():
        flat += [name.encode(), line(one)]
    return hand.reply(flat)


def written(hand: Hand) -> dict[str, Any]:
    """What the packet that is out would write."""
    assert hand.words[0] == "MULTI" and hand.words[-1] == "EXEC" and hand.effect.held
    records: dict[str, Any] = {}
    for word, _key, name, text in hand.commands[1:-1]:
        records[str(name)] = (word, (Book if name == "@" else Reservation).model_validate_json(str(text)))
    return records


def sums(hand: Hand) -> Sums:
    made: Sums = written(hand)["@"][1].sums
    return made


def asking(usd: int = 30, limits: dict[Kind, int] = LIMIT) -> Hand:
    return Hand(reserve(HERE, "mine", kept(usd), limits, NOW))


# -- room, and no room ------------------------------------------------------------------------------------------------


def test_the_first_reservation_makes_the_book_in_two_packets() -> None:
    hand = looked(asking())
    assert hand.words == ["MULTI", "HSETNX", "HSET", "EXEC"]
    assert written(hand)["mine"] == ("HSETNX", kept(30)) and sums(hand) == Sums(30, 0, 1)
    hand.executed(1, 1)
    assert hand.ended and hand.outcome is None


def test_what_fits_by_the_sums_is_reserved_without_reading_all() -> None:
    hand = looked(asking(30), a=kept(70))
    assert sums(hand) == Sums(100, 0, 2)
    assert hand.executed(1, 0).outcome is None


def test_only_the_reservations_themselves_refuse() -> None:
    hand = read(looked(asking(31), a=kept(40), b=kept(30, "paid")), a=kept(40), b=kept(30, "paid"))
    assert hand.ended and hand.outcome == Tally(paid=Sums(30, 0, 1), reserved=Sums(40, 0, 1))


def test_what_is_spent_already_is_entered_whatever_it_breaks() -> None:
    hand = looked(asking(500, {}), a=kept(100))
    assert sums(hand) == Sums(600, 0, 2)
    assert hand.executed(1, 0).outcome is None


# -- rivals -----------------------------------------------------------------------------------------------------------


def test_a_rival_who_wrote_first_is_seen_before_anything_is_granted() -> None:
    hand = looked(asking(60)).reply(b"OK", b"QUEUED", b"QUEUED", None)
    hand = read(looked(hand, rival=kept(60)), rival=kept(60))
    assert hand.ended and hand.outcome == Tally(reserved=Sums(60, 0, 1))


def test_a_budget_that_always_changes_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "RIVALS", 3)
    monkeypatch.setattr(patience, "PAUSES", (0.0, 0.0))
    hand = asking(60)
    with pytest.raises(ac.StoreUnavailable, match="others changed it each time"):
        for _ in range(6):
            hand = looked(hand).reply(b"OK", b"QUEUED", b"QUEUED", None)


# -- replies that are lost --------------------------------------------------------------------------------------------


def test_a_lost_reply_of_a_packet_that_was_applied_is_one_reservation() -> None:
    hand = looked(asking(60)).throw(Lost("cut"))
    hand = looked(hand, mine=kept(60))
    assert sums(hand) == Sums(60, 0, 1), "it is found, and not counted again"
    assert written(hand)["mine"][0] == "HSET"
    assert hand.executed(0, 0).outcome is None


def test_a_lost_packet_is_reserved_anew_under_the_same_id() -> None:
    hand = looked(asking(60)).throw(Lost("cut"))
    hand = looked(hand)
    assert written(hand)["mine"][0] == "HSETNX" and sums(hand) == Sums(60, 0, 1)


def test_a_server_that_stays_away_says_that_nothing_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0.0, 0.0))
    with pytest.raises(ac.StoreUnavailable, match="The call was not made"):
        asking().throw(NotSent("no")).throw(NotSent("no"))


def test_a_refusal_of_the_server_is_named() -> None:
    hand = looked(asking())
    oom = Refusal("OOM", "command not allowed")
    with pytest.raises(ac.StoreRefused, match="OOM"):
        hand.reply(b"OK", oom, oom, Refusal("EXECABORT", "Transaction discarded because of previous errors."))


# -- sums that lie ----------------------------------------------------------------------------------------------------


def test_sums_of_another_number_of_reservations_are_not_believed() -> None:
    hand = asking(60)
    hand.reply(b"OK", book(a=kept(10)), 3, None)  # two reservations stand there, and the book knows one
    hand = read(hand, a=kept(10), b=kept(50))
    assert hand.ended and hand.outcome == Tally(reserved=Sums(60, 0, 2))


def test_sums_that_are_too_high_refuse_nothing_and_are_mended() -> None:
    hand = asking(60)
    hand.reply(b"OK", book(a=kept(90)), 2, None)
    hand = read(hand, a=kept(10))
    assert sums(hand) == Sums(70, 0, 2)


def test_a_key_of_somebody_elses_is_refused_and_not_overwritten() -> None:
    for reply in (b"junk", Account("default", "other", "all", "r").book.model_dump_json().encode()):
        with pytest.raises(ac.CheckpointCorrupt):
            asking().reply(b"OK", reply, 2, None)
    with pytest.raises(ac.CheckpointCorrupt, match="WRONGTYPE"):
        wrong = Refusal("WRONGTYPE", "Operation against a key")
        asking().reply(b"OK", wrong, wrong, wrong)
    with pytest.raises(ac.SchemaTooNew):
        asking().reply(b"OK", HERE.book.model_copy(update={"v": 99}).model_dump_json().encode(), 1, None)


# -- workers that died ------------------------------------------------------------------------------------------------

OLD = NOW - GRACE_MS - 1


def ledger(hand: Hand, *entries: LedgerEntry) -> Hand:
    """Answers the look into a run's ledger."""
    assert hand.words == ["LLEN", "GET", "EXISTS"] and not hand.effect.held
    hand.reply(1, b"1.a", 0)
    return hand.executed(*a_load("1.a", Intent(id="i", at=1, slot="s", entries=entries)))


def known(bill: Bill, cost: int | None = None) -> LedgerEntry:
    return LedgerEntry(id="dead", bill=bill, slot="s", cost=cost, bound=90)


@pytest.mark.parametrize(
    ("entries", "state", "counts"),
    [
        ((known("paid", 7),), "paid", 7),
        ((known("wasted", 7),), "wasted", 7),
        ((known("not_billed"),), "released", 0),
        ((), "released", 0),
    ],
    ids=["paid", "wasted", "not billed", "its intent was never stored"],
)
def test_the_reservation_of_a_dead_worker_comes_back(entries: tuple[LedgerEntry, ...], state: str, counts: int) -> None:
    dead = kept(90, until=OLD)
    hand = ledger(read(looked(asking(60), dead=dead), dead=dead), *entries)
    changed = written(hand)
    assert changed["dead"][1].state == state and changed["dead"][0] == "HSET"
    assert sums(hand).usd == 60 + counts
    assert hand.executed(0, 1, 0).outcome is None


def test_what_a_dead_worker_may_have_paid_keeps_its_bound_and_is_asked_again_later() -> None:
    dead = kept(90, until=OLD)
    hand = ledger(read(looked(asking(60), dead=dead), dead=dead), known("unresolved"))
    assert written(hand)["dead"][1] == kept(90, "unresolved")
    hand.executed(0, 0)
    assert hand.outcome == Tally(unresolved=Sums(90, 0, 1))


def test_a_run_that_was_deleted_gives_nothing_back() -> None:
    dead = kept(90, until=OLD)
    hand = read(looked(asking(60), dead=dead), dead=dead)
    hand.reply(0, None, 1)
    assert written(hand)["dead"][1].state == "unresolved"


def test_a_reservation_that_may_be_a_living_workers_is_left_alone() -> None:
    young = kept(90, until=NOW - GRACE_MS)
    hand = read(looked(asking(60), young=young), young=young)
    assert hand.ended and hand.outcome == Tally(reserved=Sums(90, 0, 1))


def test_a_rival_who_writes_while_ledgers_are_read_is_seen() -> None:
    dead = kept(90, until=OLD)
    hand = ledger(read(looked(asking(60), dead=dead), dead=dead))
    hand.reply(b"OK", *[b"QUEUED"] * 3, None)
    assert hand.words == LOOK


# -- settling ---------------------------------------------------------------------------------------------------------


def test_a_settlement_replaces_the_bound_by_the_cost_and_is_never_deleted() -> None:
    hand = looked(Hand(settle(HERE, "mine", kept(7, "paid"))), mine=kept(60), a=kept(10))
    assert written(hand)["mine"] == ("HSET", kept(7, "paid")) and sums(hand) == Sums(17, 0, 2)
    assert hand.executed(0, 0).ended


def test_a_settlement_whose_reply_was_lost_is_found_to_be_done() -> None:
    hand = looked(Hand(settle(HERE, "mine", kept(7, "paid"))), mine=kept(60)).throw(Lost("cut"))
    assert looked(hand, mine=kept(7, "paid")).ended


def test_what_is_settled_is_not_opened_again() -> None:
    assert looked(Hand(settle(HERE, "mine", kept(60, "unresolved"))), mine=kept(7, "paid")).ended


def test_a_settlement_of_what_was_given_back_counts_all_the_same() -> None:
    hand = looked(Hand(settle(HERE, "mine", kept(7, "paid"))), mine=kept(0, "released"))
    assert sums(hand) == Sums(7, 0, 1)

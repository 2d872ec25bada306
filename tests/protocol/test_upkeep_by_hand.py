"""Around commits: claims that are refused or contended, readings that move, deletions and bookings on a bad line."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hand import ALIVE, LOOK, META_OF_R, REFUSED, Hand, a_load, fence, gave_back, meta_of, opening, tokens

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import CheckpointCorrupt, RunNotFound, StoreRefused, StoreUnavailable
from agentcheckpoint.store.claim import Busy, Taken, open_run
from agentcheckpoint.store.effects import Lost, NotSent, Refusal
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.patience import PAUSES, TIMEOUTS
from agentcheckpoint.store.reading import read_results, snapshot
from agentcheckpoint.store.upkeep import book_waste, delete_run, forget_ledger, renew, sweep

LOADING = Refusal("LOADING", "Redis is loading the dataset in memory")
WRONGTYPE = Refusal("WRONGTYPE", "Operation against a key holding the wrong kind of value")
WASTE = LedgerEntry(id="a1", bill="wasted", slot="s", cost=5)


def opened(mine: Fence | None = None) -> Hand:
    return Hand(open_run(mine or fence(""), tokens(), opening()))


def deleting() -> Hand:
    return Hand(delete_run(fence(), "7", lambda holder: True))


# -- claims -----------------------------------------------------------------------------------------------------------


def test_a_claim_by_a_forked_child_binds_the_token_to_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Fence(RunKeys("tag"), "default", "r")
    child = os.getpid() + 1
    monkeypatch.setattr("os.getpid", lambda: child)
    hand = opened(mine).reply(0, b"OK", None, 0)
    hand.executed(*[b"OK"] * (len(hand.commands) - 9), *a_load("1.t1"))
    mine.check()
    assert mine.pid == child


def test_a_claim_that_others_always_forestall_says_so() -> None:
    hand = opened()
    with pytest.raises(StoreUnavailable, match="changing hands"):
        for _ in PAUSES:
            hand.reply(0, b"OK", None, 0)
            hand.reply(*[b"OK"] * (len(hand.commands) - 1), None)


def test_a_claim_that_ran_without_its_multi_is_in_doubt_and_looked_at_again() -> None:
    hand = opened().reply(0, b"OK", None, 0)
    alone = [LOADING, *[b"OK"] * (len(hand.commands) - 2), Refusal("ERR", "EXEC without MULTI")]
    hand.reply(*alone)
    assert hand.words == LOOK
    hand.reply(1, b"OK", b"1.t1", 0).reply(b"OK", ALIVE, 9_000, None, META_OF_R, b"1.t1")
    assert ("SET", "ac:{tag}:head", "2.t2") in hand.commands, "it goes on from its own token"


def test_a_claim_that_is_refused_for_now_is_tried_again_and_one_refused_for_good_is_named() -> None:
    hand = opened().reply(*[LOADING] * 4)
    assert hand.words == LOOK
    hand.reply(0, b"OK", None, 0)
    with pytest.raises(StoreRefused, match="OOM"):
        hand.reply(b"OK", REFUSED["OOM"], *[b"QUEUED"] * 10, Refusal("EXECABORT", "because of previous errors."))


@pytest.mark.parametrize("place", range(4))
def test_a_key_of_a_foreign_type_is_corrupt_wherever_the_claim_meets_it(place: int) -> None:
    with pytest.raises(CheckpointCorrupt):
        if place < 3:
            replies: list[Any] = [1, b"OK", b"1.x", 0]
            replies[(0, 2, 3)[place]] = WRONGTYPE
            opened().reply(*replies)
        else:
            opened().reply(1, b"OK", b"1.x", 0).reply(b"OK", None, -2, None, WRONGTYPE, b"1.x")


def test_an_error_of_a_claims_own_writes_is_corrupt() -> None:
    hand = opened().reply(1, b"OK", b"1.x", 0).reply(b"OK", None, -2, None, meta_of(b"retryable"), b"1.x")
    inside: list[Any] = [b"OK"] * (len(hand.commands) - 9)
    inside[1] = WRONGTYPE
    hand.executed(*inside, *a_load("2.t1"))
    with pytest.raises(CheckpointCorrupt, match="WRONGTYPE"):
        gave_back(hand)


def test_a_lease_that_cannot_be_read_is_somebodys() -> None:
    hand = opened().reply(1, b"OK", b"1.x", 0).reply(b"OK", b"not JSON", 3_000, None, META_OF_R, b"1.x")
    assert hand.outcome == Busy(None, 3.0)


def test_a_completed_run_that_is_opened_again_stays_completed_until_a_step_runs() -> None:
    hand = opened().reply(1, b"OK", b"1.x", 0).reply(b"OK", None, -2, None, meta_of(b"completed", b"4"), b"1.x")
    assert ("HSET", "ac:{tag}:2.t1:meta", "schema", 1, "attempt", 5, "state", "completed", "due", "") in hand.commands
    hand.executed(*[b"OK"] * (len(hand.commands) - 9), *a_load("2.t1"))
    assert isinstance(hand.outcome, Taken)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_reading_that_is_always_forestalled_ends_and_says_so() -> None:
    hand = Hand(snapshot(fence()))
    with pytest.raises(StoreUnavailable, match="changing hands"):
        for _ in PAUSES:
            hand.reply(1, b"1.a", 0).executed(*a_load("2.heir"))


def test_a_reading_is_given_more_time_at_each_try() -> None:
    hand, seen = Hand(snapshot(fence())), []
    with pytest.raises(StoreUnavailable):
        for _ in PAUSES:
            seen.append(hand.effect.patience)
            hand.throw(Lost("too slow"))
    assert seen == [min(n, TIMEOUTS - 1) for n in range(1, len(PAUSES) + 1)]


def test_results_under_a_key_of_a_foreign_type_are_corrupt() -> None:
    with pytest.raises(CheckpointCorrupt, match="results"):
        Hand(read_results(fence(), "1.a", ["e1"])).executed(WRONGTYPE, b"1.a")


def test_results_of_a_run_that_was_deleted_are_not_found() -> None:
    with pytest.raises(RunNotFound, match="deleted"):
        Hand(read_results(fence(), "1.a", ["e1"])).executed([None], None).reply(0, None, 1)


# -- deletions --------------------------------------------------------------------------------------------------------


def test_a_deletion_whose_reply_was_lost_knows_its_own_tombstone() -> None:
    for tomb, mine in ((b"7", True), (b"6", False)):
        hand = deleting().reply([b"1.a"], b"OK", b"1.a", None).reply(b"OK", None, -2, b"1").throw(Lost("cut"))
        if mine:
            assert hand.reply([], b"OK", None, tomb).ended
        else:
            with pytest.raises(RunNotFound):
                hand.reply([], b"OK", None, tomb)


def test_a_deletion_whose_watch_broke_looks_again_under_watch_of_head_and_lease() -> None:
    hand = deleting().reply([b"1.a"], b"OK", b"1.a", None)
    assert hand.words == ["WATCH", "GET", "PTTL", "HGET"] and hand.effect.held
    hand.reply(b"OK", None, -2, b"1").reply([]).reply(b"OK", b"QUEUED", b"QUEUED", None)
    assert hand.words == ["LRANGE", "WATCH", "GET", "GET"]


def test_a_run_that_lost_its_head_can_be_deleted() -> None:
    hand = deleting().reply([b"1.a"], b"OK", None, None).reply(WRONGTYPE)
    assert hand.words == ["MULTI", "SET", "DEL", "EXEC"] and "ac:{tag}:1.a:log" in hand.commands[2]


@pytest.mark.parametrize(("refusal", "error"), [(WRONGTYPE, CheckpointCorrupt), (REFUSED["NOPERM"], StoreRefused)])
@pytest.mark.parametrize("at", ["look", "lease", "exec"])
def test_a_deletion_that_is_refused_is_named(refusal: Refusal, error: type[Exception], at: str) -> None:
    hand = deleting()
    with pytest.raises(error):
        if at == "look":
            hand.reply(refusal, b"OK", b"1.a", None)
        hand.reply([b"1.a"], b"OK", b"1.a", None)
        if at == "lease":
            hand.reply(b"OK", refusal, -2)
        hand.reply(b"OK", None, -2, b"1").reply([])
        hand.reply(b"OK", refusal, b"QUEUED", Refusal("EXECABORT", "previous errors."))


def test_a_deletion_with_a_lease_that_cannot_be_read_is_busy() -> None:
    hand = deleting().reply([b"1.a"], b"OK", b"1.a", None).reply(b"OK", b"not JSON", 9_000, b"1")
    assert hand.outcome == Busy(None, 9.0)


def test_a_deletion_that_is_decided_reads_the_run_apart_from_its_watch_and_asks_again_if_that_broke() -> None:
    asked: list[Loaded] = []

    def decide(loaded: Loaded) -> None:
        asked.append(loaded)

    hand = Hand(delete_run(fence(), "7", lambda holder: True, decide))
    for _ in range(2):
        assert hand.commands[1] == ("WATCH", "ac:{tag}:head", "ac:{tag}:waste")
        hand.reply([b"1.a"], b"OK", b"1.a", None).reply(b"OK", None, -2, b"1")
        assert hand.words[:2] == ["MULTI", "LRANGE"] and not hand.effect.held, "its EXEC would end the watch"
        hand.executed(*a_load("1.a")).reply([])
        hand.reply(b"OK", b"QUEUED", b"QUEUED", None)
    assert len(asked) == 2


def test_a_deletion_that_is_decided_takes_no_run_that_moved_for_what_it_read() -> None:
    hand = Hand(delete_run(fence(), "7", lambda holder: True, lambda loaded: pytest.fail("it has moved")))
    hand.reply([b"1.a"], b"OK", b"1.a", None).reply(b"OK", None, -2, b"1").executed(*a_load("2.heir"))
    assert hand.words == ["LRANGE", "WATCH", "GET", "GET"]


def test_a_kept_ledger_is_deleted_under_a_watch_and_never_beside_a_head() -> None:
    assert Hand(forget_ledger(fence())).reply(b"OK", 1, 1).outcome is False
    hand = Hand(forget_ledger(fence())).reply(b"OK", 0, 1)
    assert hand.words == ["MULTI", "DEL", "EXEC"] and hand.effect.held
    assert hand.throw(Lost("cut")).reply(b"OK", 0, 0).outcome is True, "only its reply was lost"


@pytest.mark.parametrize("trouble", [LOADING, Lost("cut"), NotSent("refused")], ids=str)
@pytest.mark.parametrize("what", ["a deletion", "a booking"])
def test_what_passes_is_tried_again_and_ends_as_an_error_of_the_library(what: str, trouble: Any) -> None:
    hand = deleting() if what == "a deletion" else Hand(book_waste(fence(), [WASTE]))
    patience = []
    with pytest.raises(StoreUnavailable):
        for _ in PAUSES:
            patience.append(hand.effect.patience)
            if isinstance(trouble, Refusal):
                hand.reply(*[trouble] * len(hand.commands))
            else:
                hand.throw(trouble)
    assert patience == [min(n, TIMEOUTS - 1) for n in range(1, len(PAUSES) + 1)]


# -- sweeps, renewals, bookings ---------------------------------------------------------------------------------------


def test_a_sweep_deletes_nothing_where_the_head_is_missing_unless_the_run_was_deleted() -> None:
    mine = fence("1.a")
    assert Hand(sweep(mine)).reply(b"OK", None, 0).outcome == 0
    hand = Hand(sweep(mine)).reply(b"OK", None, 1)
    assert "ac:{tag}:1.a:results" in hand.commands[1]


@pytest.mark.parametrize("head", [Refusal("NOPERM", "no"), b"1.a", b"no token"], ids=["refused", "its own", "no token"])
def test_a_sweep_that_may_not_look_or_has_nothing_to_do_ends_there(head: Any) -> None:
    assert Hand(sweep(fence("1.a"))).reply(b"OK", head, 0).outcome == 0


def test_a_sweep_lists_its_tokens_before_it_reads_the_head() -> None:
    mine = fence("1.a")
    mine.issue("2.b")
    hand = Hand(sweep(mine))
    mine.issue("3.c")  # a sibling claims at this moment
    assert not [name for name in hand.reply(b"OK", b"2.b", 0).commands[1] if "3.c" in str(name)]


def test_a_renewal_takes_a_token_of_its_own_for_no_stranger() -> None:
    mine = fence("1.a")
    hand = Hand(renew(mine))
    mine.issue("2.b")
    hand.executed(b"OK", None, b"2.b")
    assert mine.heir is None


def test_nothing_is_sent_where_nothing_was_wasted() -> None:
    assert Hand(book_waste(fence(), [])).ended

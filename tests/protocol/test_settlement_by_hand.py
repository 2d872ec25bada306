"""Parallel commits in doubt, an heir who is met by a sibling first, and a server that goes back: each race by hand."""

from __future__ import annotations

import dataclasses

import pytest
from hand import ALIVE, REFUSED, Hand, a_load, begin, change, done, fence, gave_back, same, settle, swept, tokens

from agentcheckpoint.core.models import Rejected
from agentcheckpoint.errors import (
    CheckpointCorrupt,
    CheckpointsLost,
    CommitUnknown,
    LeaseLost,
    RunDeleted,
    RunMisuse,
    StoreRefused,
    StoreUnavailable,
)
from agentcheckpoint.store.commit import Committed, Superseded, commit
from agentcheckpoint.store.effects import Await, Lost, NotSent, Refusal
from agentcheckpoint.store.loading import LOAD_REPLIES
from agentcheckpoint.store.patience import PAUSES
from agentcheckpoint.store.upkeep import renew

READ = ["LLEN", "GET", "EXISTS"]
"""How a reader looks for the head."""


def read(hand: Hand, *entries: object, token: str = "2.heir") -> Hand:
    """Answers a reading of the heir's log."""
    assert hand.words == READ
    return hand.reply(2, token.encode(), 0).executed(*a_load(token, *entries))


def test_an_end_that_a_claim_finds_to_be_stored_gives_back_the_lease_that_the_claim_has_set() -> None:
    ending = dataclasses.replace(change(), release=True)
    hand = Hand(commit(fence(), ending, tokens(), step="s")).throw(Lost("cut"))
    assert gave_back(settle(hand, "1.a", done("e1"))).outcome == Committed()


# -- an heir who is met by another first -----------------------------------------------------------------------------


def test_a_lost_commit_whose_sibling_met_the_heir_still_looks_for_its_own_record() -> None:
    mine = fence()
    one, two = begin(mine, "e1"), begin(mine, "e2")
    one.throw(Lost("cut"))
    two.throw(Lost("cut"))
    one.reply(2, b"OK", b"2.heir", 0)
    assert isinstance(two.effect, Await)
    two.answer(None)
    assert swept(read(two, done("e2"))).outcome == Committed(), "its packet came before the heir's claim"


def test_a_commit_of_a_worker_whose_renewal_met_the_heir_sends_nothing_and_gets_the_heirs_result() -> None:
    mine = fence()
    Hand(renew(mine)).executed(b"OK", None, b"2.heir")
    hand = read(begin(mine, same=same), done("theirs"))
    swept(hand.executed([b"their result"], b"2.heir"))
    assert hand.outcome == Superseded(done("theirs"), b"their result")


def test_an_answer_that_the_heir_has_rejected_is_no_result() -> None:
    hand = begin(fence(), same=same).executed(1, 1, 1, b"OK", None, b"2.heir")
    read(hand, done("theirs"), Rejected(id="r", at=1, slot="s", target="theirs", why="bad"))
    with pytest.raises(LeaseLost):
        swept(hand)


def test_the_own_record_comes_before_one_that_the_heir_made_later() -> None:
    hand = begin(fence(), same=same).executed(1, 1, 1, b"OK", None, b"2.heir")
    read(hand, done("e1"), Rejected(id="r", at=1, slot="s", target="e1", why="bad"), done("theirs"))
    assert swept(hand).outcome == Committed()


def test_a_run_that_is_deleted_while_the_heir_is_looked_at_is_gone_and_the_error_carries_the_result() -> None:
    hand = begin(fence()).executed(1, 1, 1, b"OK", None, b"2.heir").reply(0, None, 1)
    with pytest.raises(RunDeleted) as caught:
        swept(hand.reply(1), None)
    assert caught.value.value == "paid"


@pytest.mark.parametrize(("doubt", "error"), [(False, LeaseLost), (True, CommitUnknown)])
def test_an_heirs_log_that_cannot_be_read_leaves_a_doubt_only_where_there_was_one(
    doubt: bool, error: type[Exception]
) -> None:
    hand = begin(fence())
    if doubt:
        hand.throw(Lost("cut")).reply(2, b"OK", b"2.heir", 0)
    else:
        hand.executed(1, 1, 1, b"OK", None, b"2.heir")
    with pytest.raises(error) as caught:
        for _ in range(len(PAUSES) + 1):  # the last one is the sweep's
            hand.throw(NotSent("refused"))
    assert caught.value.value == "paid"  # type: ignore[attr-defined]


def test_a_foreign_head_that_is_not_newer_says_that_the_server_was_rolled_back() -> None:
    for head, said in (("3.older", True), ("4.other", True), ("5.heir", False)):
        mine = fence("4.mine")
        hand = read(begin(mine).executed(1, 1, 1, b"OK", None, head.encode()), token=head)
        with pytest.raises(LeaseLost) as caught:
            swept(hand, head.encode())
        assert ("rolled back" in str(caught.value)) is said


# -- settlements that fail, or are left --------------------------------------------------------------------------------


def test_a_settlement_that_is_refused_leaves_each_lost_commit_unknown_with_its_own_result() -> None:
    mine = fence()
    one, two = begin(mine, "e1", "paid one"), begin(mine, "e2", "paid two")
    one.throw(Lost("cut"))
    two.throw(Lost("cut"))
    with pytest.raises(CommitUnknown) as first:
        one.reply(1, b"OK", b"1.a", 0).reply(b"OK", REFUSED["OOM"], *[b"QUEUED"] * 20)
    assert isinstance(two.effect, Await)
    with pytest.raises(CommitUnknown) as second:
        two.answer(two.effect.future.exception())
    assert (first.value.value, second.value.value) == ("paid one", "paid two")


def test_a_commit_that_is_known_not_to_be_applied_is_not_called_unknown() -> None:
    mine = fence()
    hand = begin(mine)
    mine.issue("2.b")
    hand.executed(1, 1, 1, b"OK", None, b"2.b")
    with pytest.raises(StoreUnavailable, match="was not applied") as caught:
        for _ in range(len(PAUSES)):
            hand.throw(NotSent("refused"))
    assert caught.value.value == "paid"


def test_a_commit_that_was_found_not_to_be_applied_each_time_is_not_called_unknown() -> None:
    mine = fence()
    hand = Hand(commit(mine, change(), tokens(), step="s", value="paid"))
    with pytest.raises(StoreUnavailable, match="was not applied"):
        for n in range(1, len(PAUSES) + 1):
            settle(hand.throw(Lost("cut")), mine.token, token=f"{n + 1}.t{n}")


def test_a_sibling_takes_over_a_settlement_that_was_left() -> None:
    mine = fence()
    one, two = begin(mine, "e1"), begin(mine, "e2")
    one.throw(Lost("cut"))
    two.throw(Lost("cut"))
    assert isinstance(two.effect, Await) and not two.effect.future.done()
    one.close()
    assert two.effect.future.done(), "nobody waits for what will never come"
    assert settle(two.answer(None), "1.a", done("e2")).outcome == Committed()


def test_a_settlement_of_a_run_that_was_deleted_is_gone() -> None:
    hand = begin(fence()).throw(Lost("cut")).reply(0, b"OK", None, 1)
    with pytest.raises(RunDeleted) as caught:
        swept(hand.reply(1), None)
    assert caught.value.value == "paid"


# -- acknowledged under a token that a sibling has replaced meanwhile ------------------------------------------


def test_an_acknowledgement_that_comes_after_a_siblings_claim_needs_nothing_more_if_the_claim_found_it() -> None:
    mine = fence()
    hand = begin(mine)
    mine.issue("2.b")
    mine.loaded("2.b", 3, 2, {"e1"})
    assert hand.executed(3, 1, 2, b"OK", None, b"1.a").outcome == Committed()


def test_one_that_the_siblings_claim_did_not_find_is_claimed_for_once_more() -> None:
    for there in (True, False):
        mine = fence()
        hand = begin(mine)
        mine.issue("2.b")
        mine.loaded("2.b", 2, 1, set())  # and then the server went back to 1.a, and took the late packet
        hand.executed(3, 1, 2, b"OK", None, b"1.a")
        if there:
            assert settle(hand, "1.a", done("e1")).outcome == Committed()
            assert mine.went_back
        else:
            with pytest.raises(CheckpointsLost):
                settle(hand, "1.a")


@pytest.mark.parametrize("met", ["by a sibling", "by itself", "not at all"])
def test_a_lost_reply_that_a_siblings_claim_did_not_find_stays_in_doubt_until_somebody_has_looked(met: str) -> None:
    mine = fence()
    hand = begin(mine)
    mine.issue("2.b")
    mine.loaded("2.b", 2, 1, set())  # and then the server went back to 1.a, and may have taken the late packet
    mine.heir = "2.heir" if met == "by a sibling" else None
    hand.throw(Lost("cut"))
    if met == "by itself":
        assert hand.commands[1][1] == "ac:{tag}:2.b:log", "it is not claimed for once more, but sent under that claim"
        hand.executed(1, 1, 1, b"OK", None, b"2.heir")
    with pytest.raises(CommitUnknown) as caught:
        for _ in range(len(PAUSES) + 1):
            hand.throw(NotSent("refused"))
    assert caught.value.value == "paid"


def test_a_claim_of_its_own_ends_the_doubt_that_a_siblings_claim_has_left() -> None:
    mine = fence()
    hand = begin(mine)
    mine.issue("2.b")
    mine.loaded("2.b", 2, 1, set())
    settle(hand.throw(Lost("cut")).throw(Lost("cut")), "2.b", token="3.t1")
    with pytest.raises(StoreUnavailable, match="was not applied"):
        for _ in range(len(PAUSES)):
            hand.throw(NotSent("refused"))


# -- what never left, and what is not ours -----------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["not sent", "refused", "refused at the door"])
def test_what_was_not_applied_does_not_count_for_the_next_lengths(trouble: str) -> None:
    mine = fence()
    hand = begin(mine, "e1")
    if trouble == "not sent":
        hand.throw(NotSent("refused"))
    else:
        with pytest.raises(StoreRefused) as caught:
            if trouble == "refused":
                hand.reply(*[REFUSED["NOPERM"]] * 8)
            else:
                hand.throw(StoreRefused("The server refused the connection."))
        assert (caught.value.value, caught.value.run_id, caught.value.step) == ("paid", "r", "s")
        hand = begin(mine, "e2")
    with pytest.raises(CheckpointsLost, match="3 to 3"):
        hand.executed(4, 1, 2, b"OK", None, b"1.a")


def test_a_refusal_that_is_quoted_by_exec_and_passes_is_tried_again() -> None:
    hand = begin(fence())
    aborted = Refusal("EXECABORT", "Transaction discarded because of: LOADING Redis is loading the dataset in memory")
    hand.reply(b"OK", *[b"QUEUED"] * 6, aborted)
    assert hand.executed(3, 1, 2, b"OK", None, b"1.a").outcome == Committed()


@pytest.mark.parametrize("head", [b"somebody's", b"\xff\xfe", b"1", b""])
def test_a_head_that_is_no_token_is_corrupt_wherever_it_is_met(head: bytes) -> None:
    with pytest.raises(CheckpointCorrupt) as caught:
        begin(fence()).executed(1, 1, 1, b"OK", None, head)
    assert caught.value.value == "paid"
    with pytest.raises(CheckpointCorrupt):
        begin(fence()).throw(Lost("cut")).reply(1, b"OK", head, 0)
    mine = fence()
    with pytest.raises(CheckpointCorrupt):
        Hand(renew(mine)).executed(b"OK", None, head)
    assert mine.heir is None


def test_a_commit_renews_the_lease_and_a_closing_one_gives_it_back() -> None:
    assert ("SET", "ac:{tag}:1.a:lease", ALIVE, "PX", 30_000) in begin(fence()).commands
    closing = Hand(commit(fence(), dataclasses.replace(change(), release=True), tokens()))
    assert ("DEL", "ac:{tag}:1.a:lease") in closing.commands and "SET" not in closing.words


# -- settlements that one cannot wait for ------------------------------------------------------------------------------


def cannot_wait(hand: Hand) -> Hand:
    """What a driver says where waiting would never end."""
    assert isinstance(hand.effect, Await)
    return hand.throw(RunMisuse("it would wait for its own loop"))


def test_a_blocking_step_that_cannot_wait_for_its_loops_settlement_claims_for_itself() -> None:
    mine, made = fence(), tokens()
    one = Hand(commit(mine, change("e1"), made, step="one"))
    one.throw(Lost("cut"))  # an async step's packet is in doubt: its claim is under way
    one.reply(1, b"OK", b"1.a", 0)
    two = cannot_wait(Hand(commit(mine, change("e2"), made, step="two")))
    two.executed(5, 3, 2, b"OK", None, b"2.t1")  # the claim has been applied, though nobody here has heard of it
    settle(cannot_wait(two), "2.t1", done("e1"), token="3.t2")
    cannot_wait(two).executed(4, 1, 3, b"OK", None, b"3.t2")
    assert two.outcome == Committed() and mine.token == "3.t2"
    one.executed(*[b"OK"] * (len(one.commands) - 2 - LOAD_REPLIES), *a_load("2.t1", done("e1")))
    assert one.outcome == Committed()
    assert mine.token == "3.t2" and not mine.went_back, "the later claim counts"

"""Every verdict of a commit's reply, and what is done about an unknown one: no server, each reply sent by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hand import ABORT, REFUSED, Hand, a_load, begin, change, done, fence, same, settle, swept, tokens

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
from agentcheckpoint.store.patience import PAUSES, TIMEOUTS

# -- rule 1: the verdicts ---------------------------------------------------------------------------------------------


def test_one_packet_watches_nothing_and_reads_the_head_last() -> None:
    hand = begin(fence())
    assert hand.words == ["MULTI", "RPUSH", "HSET", "HLEN", "SET", "GET", "GET", "EXEC"]
    assert hand.commands[-3:-1] == [("GET", "ac:{tag}:cancel"), ("GET", "ac:{tag}:head")]
    assert not hand.effect.held


def test_the_own_token_as_head_is_committed() -> None:
    hand = begin(fence()).executed(3, 1, 2, b"OK", None, b"1.a")
    assert hand.outcome == Committed()


def test_a_newer_token_of_its_own_means_not_applied_and_sends_again_under_it() -> None:
    mine = fence()
    hand = begin(mine)
    mine.issue("2.b")
    mine.loaded("2.b", 2, 1, set())  # a sibling has settled meanwhile
    hand.executed(1, 1, 1, b"OK", None, b"2.b")
    assert hand.commands[1][1] == "ac:{tag}:2.b:log"
    assert hand.executed(3, 1, 2, b"OK", None, b"2.b").outcome == Committed()


def test_an_older_token_of_its_own_means_the_server_went_back_and_it_claims_afresh() -> None:
    mine = fence("0.z")
    mine.issue("1.a")
    mine.loaded("1.a", 2, 1, set())
    hand = begin(mine).executed(1, 1, 1, b"OK", None, b"0.z")
    settle(hand, "0.z", token="1.t1")  # the number again, with another nonce
    assert mine.went_back
    assert hand.executed(3, 1, 2, b"OK", None, b"1.t1").outcome == Committed()


def test_a_foreign_head_without_the_step_is_a_lost_lease_that_carries_what_was_paid() -> None:
    mine = fence()
    hand = begin(mine, same=same).executed(1, 1, 1, b"OK", None, b"2.heir")
    hand.reply(2, b"2.heir", 0)
    hand.executed(*a_load("2.heir"))
    with pytest.raises(LeaseLost) as caught:
        swept(hand)
    assert (caught.value.value, caught.value.step, mine.heir) == ("paid", "s", "2.heir")
    with pytest.raises(LeaseLost):
        mine.check()


def test_a_foreign_head_with_the_same_step_gives_the_heirs_result() -> None:
    hand = begin(fence(), same=same).executed(1, 1, 1, b"OK", None, b"2.heir")
    hand.reply(2, b"2.heir", 0).executed(*a_load("2.heir", done("theirs")))
    assert hand.commands[1] == ("HMGET", "ac:{tag}:2.heir:results", "theirs")
    swept(hand.executed([b"their result"], b"2.heir"))
    assert hand.outcome == Superseded(done("theirs"), b"their result")


def test_a_foreign_head_whose_log_has_our_own_record_is_committed() -> None:
    hand = begin(fence(), same=same).executed(1, 1, 1, b"OK", None, b"2.heir")
    hand.reply(2, b"2.heir", 0).executed(*a_load("2.heir", done("e1")))
    assert swept(hand).outcome == Committed()


def test_no_head_means_the_run_is_gone_and_the_tombstone_tells_whether_it_was_deleted() -> None:
    hand = begin(fence()).executed(1, 1, 1, b"OK", None, None)
    assert hand.commands == [("EXISTS", "ac:{tag}:tomb")]
    with pytest.raises(RunDeleted) as caught:
        swept(hand.reply(1), None)
    assert caught.value.value == "paid"
    with pytest.raises(CheckpointsLost, match="vanished") as lost:
        begin(fence()).executed(1, 1, 1, b"OK", None, None).reply(0)
    assert lost.value.value == "paid"


@pytest.mark.parametrize("place", range(5))
def test_an_error_element_is_torn_and_never_committed(place: int) -> None:
    inside: list[Any] = [3, 1, 2, b"OK", None, b"1.a"]
    inside[place] = Refusal("WRONGTYPE", "Operation against a key")
    with pytest.raises(CheckpointCorrupt) as caught:
        begin(fence()).executed(*inside)
    assert caught.value.value == "paid"


# -- rules 4 and 8: an unknown packet is settled by one claim ----------------------------------------------------------


def test_a_lost_reply_is_settled_by_a_claim_that_finds_the_record() -> None:
    hand = begin(fence()).throw(Lost("cut"))
    assert settle(hand, "1.a", done("e1")).outcome == Committed()


def test_a_lost_packet_is_settled_and_then_sent_again_under_the_new_token_only() -> None:
    hand = settle(begin(fence()).throw(Lost("cut")), "1.a")
    assert hand.commands[1][1] == "ac:{tag}:2.t1:log"
    assert hand.executed(3, 1, 2, b"OK", None, b"2.t1").outcome == Committed()


def test_one_claim_settles_for_all_siblings_and_no_commit_leaves_meanwhile() -> None:
    mine = fence()
    one = Hand(commit(mine, change("e1", "s"), tokens(), step="s"))
    two = Hand(commit(mine, change("e2", "t"), tokens(), step="t"))
    one.throw(Lost("cut"))
    two.throw(Lost("cut"))
    late = Hand(commit(mine, change("e3", "u"), tokens(), step="u"))
    assert isinstance(two.effect, Await) and isinstance(late.effect, Await)
    settle(one, "1.a", done("e1", "s"), done("e2", "t"))
    assert one.outcome == Committed()
    assert two.answer(None).outcome == Committed()
    assert late.answer(None).commands[1][1] == "ac:{tag}:2.t1:log"


def test_a_server_that_stays_away_leaves_it_unknown_and_the_result_in_the_error() -> None:
    mine = fence()
    hand = begin(mine).throw(Lost("cut"))
    with pytest.raises(CommitUnknown) as caught:
        for _ in range(len(PAUSES)):
            hand.throw(Lost("cut"))
    assert caught.value.value == "paid"
    assert mine.settlement() is None, "a later commit is not kept waiting"


def test_what_never_left_is_tried_again_so_often_and_with_growing_patience() -> None:
    hand, seen = begin(fence()), []
    with pytest.raises(StoreUnavailable) as caught:
        for _ in range(len(PAUSES)):
            seen.append(hand.effect.patience)
            hand.throw(NotSent("refused"))
    assert seen == sorted(seen) and seen[-1] > seen[0]
    assert caught.value.value == "paid"


# -- rule 10: the lengths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(2, 2), (1, 2), (4, 2), (3, 1), (3, 3), (None, 2)], ids=str)
def test_lengths_that_contradict_what_is_known_are_a_loss(lengths: tuple[Any, Any]) -> None:
    with pytest.raises(CheckpointsLost) as caught:
        begin(fence()).executed(lengths[0], 1, lengths[1], b"OK", None, b"1.a")
    assert caught.value.value == "paid"


def test_parallel_commits_may_be_applied_in_any_order_but_not_at_one_place() -> None:
    mine = fence()
    hands = [Hand(commit(mine, change(f"e{n}", f"s{n}"), tokens())) for n in range(4)]
    for hand, place in zip(hands[:3], (2, 0, 3), strict=True):
        hand.executed(3 + place, 1, 2 + place, b"OK", None, b"1.a")
        assert hand.outcome == Committed()
    with pytest.raises(CheckpointsLost):
        hands[3].executed(3, 1, 2, b"OK", None, b"1.a")


def test_a_settlement_must_find_all_that_was_acknowledged() -> None:
    mine = fence()
    Hand(commit(mine, change("e0", "z"), tokens())).executed(3, 1, 2, b"OK", None, b"1.a")
    hand = begin(mine).throw(Lost("cut"))
    with pytest.raises(CheckpointsLost):
        settle(hand, "1.a", done("e1"))


# -- rule 15: what is not applied -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", REFUSED)
@pytest.mark.parametrize("at_exec", [False, True])
def test_a_refusal_is_not_applied_and_is_named(code: str, at_exec: bool) -> None:
    hand = begin(fence())
    queued: list[Any] = [b"QUEUED"] * (len(hand.commands) - 2)
    final = Refusal("EXECABORT", f"Transaction discarded because of: {REFUSED[code]}")
    with pytest.raises(StoreRefused, match=code) as caught:
        if at_exec:
            hand.reply(b"OK", *queued, final)
        else:
            hand.reply(b"OK", REFUSED[code], *queued[1:], ABORT)
    assert caught.value.value == "paid"


@pytest.mark.parametrize("code", ["LOADING", "TRYAGAIN", "CLUSTERDOWN"])
def test_a_refusal_that_passes_is_tried_again(code: str) -> None:
    hand = begin(fence())
    hand.reply(b"OK", Refusal(code, "wait"), *[b"QUEUED"] * (len(hand.commands) - 3), ABORT)
    assert hand.executed(3, 1, 2, b"OK", None, b"1.a").outcome == Committed()


def test_commands_that_ran_without_their_multi_are_unknown_and_settled() -> None:
    hand = begin(fence())
    hand.reply(Refusal("LOADING", "wait"), 3, 1, 2, b"OK", None, b"1.a", Refusal("ERR", "EXEC without MULTI"))
    assert settle(hand, "1.a", done("e1")).outcome == Committed()


# -- rule 8: a fork ----------------------------------------------------------------------------------------------------


def test_a_fork_may_not_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = fence()
    monkeypatch.setattr("os.getpid", lambda: mine.pid + 1)
    with pytest.raises(RunMisuse, match="fork"):
        begin(mine)


# -- how long a server that is silent is waited for --------------------------------------------------------------------


def silent() -> Lost:
    return Lost("no reply", timed_out=True)


@pytest.mark.parametrize("trouble", [Lost, NotSent], ids=lambda kind: kind.__name__)
def test_a_silent_server_is_waited_for_so_many_time_outs_in_all_with_the_settlement(trouble: type[Exception]) -> None:
    hand, waited = begin(fence()), 0
    with pytest.raises((CommitUnknown, StoreUnavailable)) as caught:
        for _ in range(TIMEOUTS + 1):
            waited += hand.effect.patience
            hand.throw(trouble("no reply", timed_out=True))
    assert waited == TIMEOUTS
    assert isinstance(caught.value, CommitUnknown) is (trouble is Lost)
    assert caught.value.value == "paid"


def test_a_server_that_answers_in_the_end_gets_the_commit_once_more() -> None:
    mine = fence()
    hand, waited = begin(mine), 0
    while waited + hand.effect.patience < TIMEOUTS:  # to the very last try
        waited += hand.effect.patience
        hand.throw(silent())
    settle(hand, "1.a")
    assert hand.words[:2] == ["MULTI", "RPUSH"]
    settle(hand.throw(silent()), "2.t1", done(), token="3.t2")
    assert isinstance(hand.outcome, Committed), "and what became of that was asked as well"


@pytest.mark.parametrize("value", ["paid", None])
def test_an_error_speaks_of_a_result_only_where_it_carries_one(value: object) -> None:
    hand = begin(fence(), value=value)
    with pytest.raises(StoreUnavailable) as caught:
        while True:
            hand.throw(NotSent("refused"))
    assert ("`value`" in str(caught.value)) is (value is not None)
    hand = begin(fence(), value=value).throw(Lost("cut"))
    with pytest.raises(CommitUnknown) as unknown:
        while True:
            hand.throw(Lost("cut"))
    assert ("`value`" in str(unknown.value)) is (value is not None)

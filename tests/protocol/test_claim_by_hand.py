"""Claiming, reading, and upkeep: what each answer of the server means, sent by hand."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
from hand import ALIVE, META_OF_R, Hand, a_load, done, fence, gave_back, meta_of, opening, tokens

from agentcheckpoint.core.models import LedgerEntry
from agentcheckpoint.errors import (
    CheckpointCorrupt,
    CheckpointsLost,
    CommitUnknown,
    RunDeleted,
    RunNotFound,
    SchemaTooNew,
    StoreRefused,
    StoreUnavailable,
)
from agentcheckpoint.store.claim import Busy, Foreign, Gone, Taken, open_run, settle
from agentcheckpoint.store.effects import Lost, NotSent, Refusal
from agentcheckpoint.store.holder import this_process
from agentcheckpoint.store.keys import RunKeys
from agentcheckpoint.store.patience import PAUSES
from agentcheckpoint.store.reading import read_results, snapshot
from agentcheckpoint.store.upkeep import book_waste, delete_run, renew, sweep

LOAD = 7


def open_by_hand(mine: Any = None, **options: Any) -> Hand:
    made = dataclasses.replace(opening(), **options)
    return Hand(open_run(mine or fence(""), tokens(), made))


def claimed(hand: Hand, token: str, *entries: Any, **load: Any) -> Hand:
    return hand.executed(*[b"OK"] * (len(hand.commands) - 2 - LOAD), *a_load(token, *entries, **load))


# -- the first claim and the heir's -----------------------------------------------------------------------------------


def test_the_first_claim_writes_the_birth_marks_and_only_it_does() -> None:
    hand = open_by_hand().reply(0, b"OK", None, 0)
    born = [command for command in hand.commands if "birth" in str(command)]
    assert [command[1] for command in born] == [f"ac:{{tag}}:1.t1:{key}" for key in ("log", "results", "meta")]
    assert isinstance(claimed(hand, "1.t1").outcome, Taken)
    heir = open_by_hand().reply(1, b"OK", b"1.t1", 0).reply(b"OK", None, -2, None, meta_of(b"retryable"), b"1.t1")
    assert not [command for command in heir.commands if "birth" in str(command)]


def test_an_heir_renames_and_persists_every_data_key_and_sets_its_own_lease() -> None:
    hand = open_by_hand().reply(4, b"OK", b"4.old", 0).reply(b"OK", None, -2, None, meta_of(b"retryable"), b"4.old")
    new = hand.commands[1][2]
    assert new == "5.t1"
    for key in ("log", "results", "meta"):
        assert ("RENAME", f"ac:{{tag}}:4.old:{key}", f"ac:{{tag}}:5.t1:{key}") in hand.commands
        assert ("PERSIST", f"ac:{{tag}}:5.t1:{key}") in hand.commands
    assert ("RPUSH", "ac:{tag}:tokens", new) in hand.commands
    assert ("SET", f"ac:{{tag}}:{new}:lease", ALIVE, "PX", 30_000) in hand.commands
    assert hand.commands[-2] == ("GET", "ac:{tag}:head") and hand.effect.held


def test_a_lease_of_somebody_who_may_live_is_busy_and_watched() -> None:
    hand = open_by_hand().reply(1, b"OK", b"1.x", 0)
    assert hand.commands[0] == ("WATCH", "ac:{tag}:1.x:lease", "ac:{tag}:cancel")
    outcome = hand.reply(b"OK", ALIVE, 12_000, None, META_OF_R, b"1.x").outcome
    assert isinstance(outcome, Busy) and outcome.ttl == 12


def test_a_lease_of_a_process_that_is_provably_dead_is_taken_at_once() -> None:
    dead = this_process().model_copy(update={"pid": 2**22 - 3, "start": 1})
    hand = open_by_hand().reply(1, b"OK", b"1.x", 0)
    hand.reply(b"OK", dead.model_dump_json().encode(), 12_000, None, META_OF_R, b"1.x")
    assert hand.words[0] == "MULTI"


def test_the_lease_of_this_process_itself_is_busy_unless_it_was_closed() -> None:
    alive = this_process("me").model_dump_json().encode()
    for released, busy in ((False, True), (True, False)):
        hand = open_by_hand(released=lambda holder, r=released: r).reply(1, b"OK", b"1.x", 0)
        hand.reply(b"OK", alive, 9_000, None, META_OF_R, b"1.x")
        assert isinstance(hand.outcome, Busy) is busy
    assert os.getpid() == this_process().pid


def test_a_look_that_another_claim_came_between_looks_again_and_finds_no_loss() -> None:
    hand = open_by_hand().reply(1, b"OK", b"1.x", 0)
    assert hand.commands[-1] == ("GET", "ac:{tag}:head"), "read last, after what it vouches for"
    hand.reply(b"OK", None, -2, None, [None] * 5, b"2.heir")  # renamed, and not gone
    assert hand.words == ["LLEN", "WATCH", "GET", "EXISTS"]
    with pytest.raises(CheckpointsLost, match="birth mark"):
        hand.reply(2, b"OK", b"2.heir", 0).reply(b"OK", None, -2, None, [None] * 5, b"2.heir")


def test_a_claim_whose_watch_broke_looks_again_with_another_token() -> None:
    hand = open_by_hand().reply(0, b"OK", None, 0)
    hand.reply(*[b"OK"] * (len(hand.commands) - 1), None)
    assert hand.words == ["LLEN", "WATCH", "GET", "EXISTS"]
    hand.reply(0, b"OK", None, 0)
    assert hand.commands[1][2] == "1.t2"


def test_a_claim_whose_reply_was_lost_goes_on_from_its_own_token_and_notes_its_attempt_once() -> None:
    mine = fence("")
    hand = open_by_hand(mine).reply(0, b"OK", None, 0).throw(Lost("cut"))
    hand.reply(1, b"OK", b"1.t1", 0).reply(b"OK", ALIVE, 9_000, None, META_OF_R, b"1.t1")
    assert hand.commands[1][2] == "2.t2", "its own lease is never busy, and the nonce is fresh"
    assert not [command for command in hand.commands if "opened" in str(command)]
    assert isinstance(claimed(hand, "2.t2").outcome, Taken)


def test_a_server_that_stays_away_ends_the_tries_and_only_a_claim_that_left_leaves_a_doubt() -> None:
    hand, seen = open_by_hand(), []
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        for _ in range(len(PAUSES)):
            seen.append(hand.effect.patience)
            hand.throw(Lost("cut"))
    assert seen == sorted(seen) and seen[-1] > seen[0], "time-outs grow"
    hand = open_by_hand().reply(0, b"OK", None, 0).throw(Lost("cut"))
    with pytest.raises(CommitUnknown):
        for _ in range(len(PAUSES) - 1):
            hand.throw(NotSent("refused"))


# -- what is there, and what is not -----------------------------------------------------------------------------------


def test_a_missing_head_with_issued_tokens_is_a_loss_and_not_a_new_run() -> None:
    with pytest.raises(CheckpointsLost, match="head"):
        open_by_hand().reply(3, b"OK", None, 0)


def test_a_tombstone_is_no_new_run() -> None:
    with pytest.raises(RunDeleted):
        open_by_hand().reply(0, b"OK", None, 1)


def test_settling_on_a_foreign_head_or_none_claims_nothing() -> None:
    assert Hand(settle(fence(), tokens())).reply(2, b"OK", b"2.heir", 0).outcome == Foreign("2.heir")
    assert Hand(settle(fence(), tokens())).reply(0, b"OK", None, 1).outcome == Gone()


@pytest.mark.parametrize("lost", ["log", "meta", "results mark", "a result"])
def test_a_missing_birth_mark_or_result_is_a_loss(lost: str) -> None:
    load = a_load("1.t1", done("e1"))
    if lost == "log":
        load[0] = load[0][1:]
    elif lost == "meta":
        load[1] = [b"state", b"running"]
    elif lost == "results mark":
        load[3] = None
    else:
        load[2] = 1
    hand = open_by_hand().reply(0, b"OK", None, 0)
    hand.executed(*[b"OK"] * (len(hand.commands) - 2 - LOAD), *load)
    with pytest.raises(CheckpointsLost):
        gave_back(hand)


def test_renames_error_for_a_missing_key_is_no_verdict_the_birth_marks_are() -> None:
    hand = open_by_hand().reply(4, b"OK", b"4.old", 0).reply(b"OK", None, -2, None, meta_of(b"retryable"), b"4.old")
    before = [Refusal("ERR", "no such key")] * (len(hand.commands) - 2 - LOAD)
    assert isinstance(hand.executed(*before, *a_load("5.t1")).outcome, Taken)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"{", CheckpointCorrupt),
        (b'{"k":"done","v":1}', CheckpointCorrupt),
        (b'{"k":"hologram","v":2,"id":"x","at":1}', SchemaTooNew),
        (b'{"k":"intent","v":2,"id":"x","at":1,"slot":"s"}', SchemaTooNew),
        (b'{"k":"hologram","v":1,"id":"x","at":1}', CheckpointCorrupt),
    ],
)
def test_what_is_corrupt_or_newer_is_refused_and_named(line: bytes, error: type[Exception]) -> None:
    load = a_load("1.t1")
    load[0].append(line)
    hand = open_by_hand().reply(0, b"OK", None, 0)
    hand.executed(*[b"OK"] * (len(hand.commands) - 2 - LOAD), *load)
    with pytest.raises(error, match=r"log\[2\]"):
        gave_back(hand)


@pytest.mark.parametrize("place", [0, 2])
def test_a_refused_look_is_named(place: int) -> None:
    replies: list[Any] = [0, b"OK", None, 0]
    replies[place] = Refusal("NOPERM", "no")
    with pytest.raises(StoreRefused, match="NOPERM"):
        open_by_hand().reply(*replies)


# -- rule 2: reading ---------------------------------------------------------------------------------------------------


def test_a_load_counts_only_under_the_head_it_was_read_with() -> None:
    hand = Hand(snapshot(fence())).reply(1, b"1.a", 0)
    hand.executed(*a_load("2.heir"))
    assert hand.words[0] == "LLEN", "it moved meanwhile: read again"
    assert hand.reply(2, b"2.heir", 0).executed(*a_load("2.heir")).outcome.token == "2.heir"


def test_results_follow_the_run_to_its_heir() -> None:
    hand = Hand(read_results(fence(), "1.a", ["e1"])).executed([None], b"2.heir")
    hand.reply(2, b"2.heir", 0)
    assert hand.commands[1] == ("HMGET", "ac:{tag}:2.heir:results", "e1")
    assert hand.executed([b"x"], b"2.heir").outcome == {"e1": b"x"}


def test_a_recorded_result_that_is_gone_is_a_loss() -> None:
    with pytest.raises(CheckpointsLost, match="e1"):
        Hand(read_results(fence(), "1.a", ["e1"])).executed([None], b"1.a")


@pytest.mark.parametrize(("look", "error"), [((0, None, 0), RunNotFound), ((2, None, 0), CheckpointsLost)])
def test_no_head_is_no_run_or_a_loss(look: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        Hand(snapshot(fence())).reply(*look)


# -- rules 12 to 14: upkeep -----------------------------------------------------------------------------------------


def test_a_sweep_watches_the_head_and_spares_the_current_token() -> None:
    mine = fence("1.a")
    mine.issue("2.b")
    hand = Hand(sweep(mine)).reply(b"OK", b"1.a", 0)
    assert hand.words == ["MULTI", "DEL", "EXEC"] and hand.effect.held
    assert all(":2.b:" in str(name) for name in hand.commands[1][1:])
    assert hand.reply(b"OK", b"QUEUED", None).outcome == 0, "the head has moved: nothing is deleted"


def test_a_deletion_lists_the_tokens_before_it_reads_the_head_under_watch_and_leaves_a_tombstone() -> None:
    hand = Hand(delete_run(fence(), "7", lambda holder: True))
    assert hand.words == ["LRANGE", "WATCH", "GET", "GET"]
    hand.reply([b"1.a", b"2.b"], b"OK", b"3.c", None).reply(
        b"OK", None, -2, b"1"
    )  # a claim came after the list was read
    loop = '{"begun":"birth","digest":"d","kind":"unordered","at":1,"value":"{}"}'
    hand.reply([b"@", b"birth"], [b"cursor:loop", loop.encode()], [])
    assert ("SET", "ac:{tag}:tomb", b"7") in hand.commands
    (deleted,) = [command for command in hand.commands if command[0] == "DEL"]
    kept = {
        f"ac:{{tag}}:{token}:{key}" for token in ("1.a", "2.b", "3.c") for key in ("log", "results", "meta", "lease")
    }
    beside = {f"ac:{{tag}}:{key}" for key in ("head", "tokens", "waste", "cancel", "answers", "kept")}
    kept.add(RunKeys("tag").marks("2.b", "loop"))
    assert beside | kept == set(deleted[1:])
    assert hand.executed(b"OK", 9).outcome is None


def test_a_run_that_somebody_works_on_is_not_deleted() -> None:
    hand = Hand(delete_run(fence(), "7", lambda holder: False)).reply([b"1.a"], b"OK", b"1.a", None)
    assert isinstance(hand.reply(b"OK", ALIVE, 9_000, b"1").outcome, Busy)


def test_waste_is_booked_by_attempt_id_so_that_twice_is_once() -> None:
    entry = LedgerEntry(id="a1", bill="wasted", slot="s", cost=5)
    hand = Hand(book_waste(fence(), [entry])).throw(Lost("cut"))
    assert [command[:3] for command in hand.commands] == [("HSETNX", "ac:{tag}:waste", "a1")]
    assert hand.reply(0).ended


def test_a_renewal_sets_the_lease_anew_and_notices_a_foreign_head() -> None:
    mine = fence()
    hand = Hand(renew(mine))
    assert ("SET", "ac:{tag}:1.a:lease", ALIVE, "PX", 30_000) in hand.commands
    hand.executed(b"OK", None, b"2.heir")
    assert mine.heir == "2.heir"
    kept = fence()
    Hand(renew(kept)).throw(Lost("cut"))
    assert kept.heir is None

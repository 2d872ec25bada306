"""The journal: which record answers which call, in whatever order they come, and when the code has changed."""

from __future__ import annotations

from replaying import Attempt, done

from agentcheckpoint.core.journal import Scope

# -- slots and order --------------------------------------------------------------------------------------------------


def test_calls_of_one_name_are_numbered_in_the_order_in_which_they_are_made() -> None:
    first = Attempt()
    assert [first.step("think", str(i)) for i in range(3)] == ["execute think", "execute think#2", "execute think#3"]
    assert [first.again().step("think", "0")] == ["replay think"]


def test_the_slot_is_taken_by_the_call_not_by_its_end() -> None:
    first = Attempt()
    one, two = first.call("fetch", "a"), first.call("fetch", "b")
    assert first.finish(two) == "execute fetch#2"
    assert first.finish(one) == "execute fetch"


def test_everything_is_replayed_and_nothing_is_paid_again() -> None:
    first = Attempt()
    story = [("plan", ""), ("think", "1"), ("search", "x"), ("think", "2"), ("think", "2")]
    for name, text in story:
        first.step(name, text)
    second = first.again()
    assert all(second.step(name, text).startswith("replay") for name, text in story)
    assert second.paid == []
    assert second.unmet() == []


def test_parallel_siblings_in_another_order_find_their_own_records() -> None:
    first = Attempt()
    for call in [first.call("fetch", text) for text in "abc"]:
        first.finish(call)
    second = first.again()
    calls = [second.call("fetch", text) for text in "cab"]
    assert [second.finish(call) for call in calls] == ["replay fetch#3", "replay fetch", "replay fetch#2"]


def test_of_equal_siblings_the_nth_call_gets_the_nth_record() -> None:
    first = Attempt()
    for text in ("same", "other", "same", "same"):
        first.step("now", text)
    second = first.again()
    assert [second.step("now", "same") for _ in range(4)] == [
        "replay now",
        "replay now#3",
        "replay now#4",
        "mismatch now#2",
    ]


def test_two_scopes_count_for_themselves() -> None:
    first = Attempt()
    inner = Scope("answer")
    assert first.step("search", "q") == "execute search"
    assert first.step("search", "q", scope=inner) == "execute answer/search"
    assert first.step("search", "r", scope=inner) == "execute answer/search#2"


# -- changed code: nothing is silently skipped, nothing silently paid twice -------------------------------------------


def test_a_changed_input_is_a_mismatch_with_the_lowest_free_record() -> None:
    second = Attempt([done("fetch", "a"), done("fetch#2", "b")])
    assert second.step("fetch", "a") == "replay fetch"
    call = second.call("fetch", "B")
    assert second.begin(call) == "mismatch"
    assert call.mismatch is not None
    assert call.mismatch.id == "fetch#2=b"


def test_a_mismatch_that_is_retried_is_a_mismatch_again_and_never_a_new_slot() -> None:
    second = Attempt([done("fetch", "a")])
    assert [second.step("fetch", "changed") for _ in range(3)] == ["mismatch fetch"] * 3
    assert second.paid == []


def test_a_step_inserted_before_the_recorded_ones_runs() -> None:
    second = Attempt([done("plan"), done("answer")])
    assert [second.step(name) for name in ("check", "plan", "answer")] == [
        "execute check",
        "replay plan",
        "replay answer",
    ]


def test_a_call_inserted_among_siblings_is_a_mismatch_not_a_payment() -> None:
    second = Attempt([done("fetch", "a"), done("fetch#2", "b")])
    assert second.step("fetch", "new") == "mismatch fetch"
    assert second.paid == []


def test_reordered_steps_each_find_their_own_record() -> None:
    second = Attempt([done("a"), done("b"), done("c")])
    assert [second.step(name) for name in "cab"] == ["replay c", "replay a", "replay b"]


def test_a_step_that_never_ran_is_not_skipped_because_a_later_one_is_recorded() -> None:
    first = Attempt()
    calls = [first.call("tool", text) for text in "xyz"]
    first.finish(calls[2])
    first.fail(calls[0])
    first.finish(calls[1])
    second = first.again()
    assert [second.step("tool", text) for text in "xyz"] == ["execute tool", "replay tool#2", "replay tool#3"]


def test_a_removed_step_is_unmet_and_bricks_nothing() -> None:
    second = Attempt([done("a"), done("b"), done("c")])
    assert [second.step(name) for name in ("a", "c", "d")] == ["replay a", "replay c", "execute d"]
    assert second.unmet() == ["b"]


def test_a_renamed_step_runs_and_its_old_name_is_unmet() -> None:
    second = Attempt([done("plan")])
    assert second.step("make plan") == "execute make plan"
    assert second.unmet() == ["plan"]


def test_a_conditional_step_that_is_left_out_and_comes_back_is_replayed() -> None:
    first = Attempt([done("a"), done("maybe"), done("c")])
    assert [first.step(name) for name in "ac"] == ["replay a", "replay c"]
    assert [first.again().step(name) for name in ("a", "maybe", "c")] == ["replay a", "replay maybe", "replay c"]


def test_a_run_that_stopped_between_siblings_goes_on_after_the_last() -> None:
    second = Attempt([done("fetch", "a"), done("fetch#2", "b")])
    assert [second.step("fetch", text) for text in "abc"] == ["replay fetch", "replay fetch#2", "execute fetch#3"]


def test_rerunning_a_mismatch_replaces_the_record() -> None:
    second = Attempt([done("fetch", "a")])
    call = second.call("fetch", "b")
    assert second.begin(call) == "mismatch"
    second.record(call)
    third = second.again()
    assert third.step("fetch", "b") == "replay fetch"
    assert second.again().step("fetch", "a") == "mismatch fetch"


# -- overlap ----------------------------------------------------------------------------------------------------------


def test_calls_that_were_open_together_are_marked_and_others_are_not() -> None:
    first = Attempt()
    alone = first.call("fetch", "0")
    first.finish(alone)
    one, two = first.call("fetch", "1"), first.call("fetch", "2")
    other = first.call("think", "")
    for call in (one, two, other):
        first.finish(call)
    assert [call.overlap for call in (alone, one, two, other)] == [False, True, True, False]


def test_a_record_made_beside_its_siblings_never_mismatches() -> None:
    second = Attempt([done("fetch", "a", overlap=True), done("fetch#2", "b", overlap=True)])
    assert second.step("fetch", "new") == "execute fetch#3"
    assert second.step("fetch", "b") == "replay fetch#2"
    assert second.step("fetch", "newer") == "execute fetch#4"
    assert second.unmet() == ["fetch"]


def test_a_call_whose_answer_is_whole_does_not_overlap_with_what_its_caller_calls_next() -> None:
    first = Attempt()
    stream = first.call("chat", "1")
    first.journal.whole(stream)
    following = first.call("chat", "2")
    first.finish(stream)
    first.finish(following)
    assert not stream.overlap
    assert not following.overlap


def test_a_call_that_nobody_awaited_does_not_mark_the_calls_after_its_end() -> None:
    first = Attempt()
    forgotten = first.call("fetch", "a")
    first.journal.end(forgotten)
    following = first.call("fetch", "b")
    assert not following.overlap
    assert first.call("fetch", "a").slot == "fetch"

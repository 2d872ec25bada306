"""The journal: calls with a key, calls that fail, are refused or cancelled, nested calls, and calls from threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from replaying import Attempt, done

from agentcheckpoint.core.journal import Scope
from agentcheckpoint.core.models import Rejected

# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_names_the_slot_whatever_the_order() -> None:
    first = Attempt()
    for key in ("x", "y"):
        first.step("fetch", key, key=key)
    second = first.again()
    assert [second.step("fetch", key, key=key) for key in ("y", "x")] == ["replay fetch[y]", "replay fetch[x]"]


def test_the_same_key_twice_in_one_attempt_is_one_step() -> None:
    first = Attempt()
    assert [first.step("fetch", "u", key="u") for _ in range(3)] == ["execute fetch[u]"] + ["replay fetch[u]"] * 2
    assert first.paid == ["fetch[u]"]


def test_the_same_key_with_other_inputs_is_a_mismatch() -> None:
    first = Attempt()
    first.step("fetch", "1", key="u")
    assert first.step("fetch", "2", key="u") == "mismatch fetch[u]"


def test_a_call_of_a_key_that_is_under_way_waits_and_then_replays() -> None:
    first = Attempt()
    one, two = first.call("fetch", "u", key="u"), first.call("fetch", "u", key="u")
    assert first.begin(one) == "execute"
    assert first.journal.start(two) is one
    ended = first.journal.end_of(one)
    assert not ended.done()
    first.record(one)
    assert ended.done()
    assert first.finish(two) == "replay fetch[u]"


def test_when_the_call_under_way_fails_the_one_that_waited_executes() -> None:
    first = Attempt()
    one, two = first.call("fetch", "u", key="u"), first.call("fetch", "u", key="u")
    first.begin(one)
    assert first.journal.start(two) is one
    first.journal.end(one)
    assert first.begin(two) == "execute"


def test_a_keyed_call_that_has_not_begun_holds_nobody_up() -> None:
    first = Attempt()
    never_awaited, awaited = first.call("fetch", "u", key="u"), first.call("fetch", "u", key="u")
    assert first.finish(awaited) == "execute fetch[u]"
    assert first.finish(never_awaited) == "replay fetch[u]"


@pytest.mark.parametrize("key", ["a/b", "a#2", "x]", "[x", "]#3", "a[b]c/d#4"])
def test_a_key_of_any_spelling_comes_back_as_itself(key: str) -> None:
    first = Attempt()
    first.step("fetch", key, key=key)
    first.step("fetch", "plain")
    second = first.again()
    assert second.step("fetch", "plain") == "replay fetch"
    assert second.step("fetch", key, key=key).startswith("replay")
    assert second.unmet() == []


# -- failures, refusals, cancellations --------------------------------------------------------------------------------


def test_a_call_that_failed_is_made_again_in_the_same_slot() -> None:
    first = Attempt()
    first.fail(first.call("think", "a"))
    first.fail(first.call("think", "a"))
    assert first.step("think", "a") == "execute think"
    assert first.step("think", "a") == "execute think#2"
    assert [first.again().step("think", "a")] == ["replay think"]


def test_another_call_after_a_failure_takes_the_next_slot() -> None:
    first = Attempt()
    first.fail(first.call("think", "a"))
    assert first.step("think", "b") == "execute think#2"
    second = first.again()
    assert [second.step("think", text) for text in "ab"] == ["execute think", "replay think#2"]


def test_a_refused_answer_is_bought_again_in_its_slot() -> None:
    first = Attempt()
    for text in "abc":
        first.step("think", text)
    second = first.again()
    second.step("think", "a")
    call = second.call("think", "b")
    second.finish(call)
    second.journal.reject("think#2", "think#2=b")
    second.journal.reopen(call)
    assert second.step("think", "b") == "execute think#2"
    assert second.step("think", "c") == "replay think#3"


def test_a_refusal_in_the_log_leaves_its_slot_open() -> None:
    refused = Rejected(id="r", at=0, slot="think#2", target="think#2=b", why="bad")
    second = Attempt([done("think", "a"), done("think#2", "b"), done("think#3", "c"), refused])
    assert [second.step("think", text) for text in "abc"] == ["replay think", "execute think#2", "replay think#3"]


def test_a_refusal_of_an_older_record_does_not_touch_the_newer_one() -> None:
    refused = Rejected(id="r", at=0, slot="think", target="think=a", why="bad")
    second = Attempt([done("think", "a"), refused, done("think", "a", version="2"), refused])
    assert second.step("think", "a") == "replay think"


def test_a_replay_that_did_not_reach_its_caller_is_given_to_the_same_call() -> None:
    second = Attempt([done("now", ""), done("now#2", "")])
    one, two = second.call("now"), second.call("now")
    second.journal.end(two)
    second.journal.end(one)
    assert [second.step("now") for _ in range(2)] == ["replay now", "replay now#2"]


def test_a_result_that_was_stored_when_its_caller_was_gone_is_not_bought_again() -> None:
    first = Attempt()
    call = first.call("think", "a")
    first.begin(call)
    first.record(call)
    first.journal.undelivered(call)
    assert first.step("think", "a") == "replay think"
    assert first.step("think", "a") == "execute think#2"


def test_ending_a_call_twice_frees_its_slot_once() -> None:
    first = Attempt()
    call = first.call("think", "a")
    first.journal.end(call)
    first.journal.end(call)
    assert [first.step("think", "a") for _ in range(2)] == ["execute think", "execute think#2"]


# -- nesting ----------------------------------------------------------------------------------------------------------


def test_children_of_a_failed_step_are_found_by_its_next_attempt() -> None:
    first = Attempt()
    outer = first.call("answer")
    first.begin(outer)
    inner = Scope(outer.slot)
    for text in "ab":
        first.step("search", text, scope=inner)
    first.journal.end(outer)
    retry = first.call("answer")
    assert first.begin(retry) == "execute"
    fresh = Scope(retry.slot)
    assert [first.step("search", text, scope=fresh) for text in "abc"] == [
        "replay answer/search",
        "replay answer/search#2",
        "execute answer/search#3",
    ]


def test_children_of_a_failed_step_are_found_by_the_next_attempt_of_the_run() -> None:
    first = Attempt()
    outer = first.call("answer")
    first.begin(outer)
    first.step("search", "a", scope=Scope("answer"))
    first.journal.end(outer)
    second = first.again()
    assert second.begin(second.call("answer")) == "execute"
    assert second.step("search", "a", scope=Scope("answer")) == "replay answer/search"


def test_children_of_a_replayed_step_are_not_unmet() -> None:
    second = Attempt([done("answer/search"), done("answer/search/deep"), done("answer"), done("answer#2/search")])
    second.step("answer")
    assert second.unmet() == ["answer#2/search"]


def test_a_slash_in_a_key_is_no_nesting() -> None:
    second = Attempt([done("fetch"), done("fetch[https://a]"), done("fetch[https:]", "other")])
    second.step("fetch")
    second.step("fetch", "other", key="https:")
    assert second.unmet() == ["fetch[https://a]"]


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads change places after nearly every instruction."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
def test_calls_from_many_threads_get_a_slot_each() -> None:
    first = Attempt()
    taken: list[str] = []
    ready = threading.Barrier(8)

    def work() -> None:
        ready.wait()
        for i in range(200):
            call = first.call("fetch", str(i % 5))
            taken.append(call.slot)
            first.journal.record(call, done(call.slot, call.inputs.digest))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 1600

"""Which call an answer's id is for: by name, scope and inputs, as long as the answer is not recorded or no good."""

from __future__ import annotations

import pytest

from agentcheckpoint.core.handles import Handles
from agentcheckpoint.core.models import (
    Bill,
    Done,
    Failed,
    Failure,
    Inputs,
    Intent,
    LedgerEntry,
    Located,
    LogEntry,
    Payload,
    Rejected,
    Settled,
)


def money(attempt: str, bill: Bill = "unresolved") -> LedgerEntry:
    return LedgerEntry(id=attempt, bill=bill, slot="s", response_id=f"resp_{attempt}")


def located(attempt: str, slot: str = "ask", digest: str = "d") -> Located:
    return Located(id=f"located {attempt}", at=1, slot=slot, digest=digest, entries=(money(attempt),))


def told(*entries: LogEntry) -> Handles:
    handles = Handles()
    for entry in entries:
        handles.tell(entry)
    return handles


def taken(handles: Handles, slot: str = "ask", digest: str = "d") -> str | None:
    handle = handles.take(slot, digest)
    return None if handle is None else handle.entries[-1].id


def test_an_equal_call_takes_it_once() -> None:
    handles = told(located("a"))
    assert (taken(handles), taken(handles)) == ("a", None)


@pytest.mark.parametrize(
    ("slot", "digest", "found"),
    [
        ("ask#2", "d", True),
        ("ask", "other", False),
        ("asked", "d", False),
        ("outer/ask", "d", False),
        ("ask[k]", "d", False),
    ],
)
def test_its_number_does_not_count_and_its_scope_name_key_and_inputs_do(slot: str, digest: str, found: bool) -> None:
    assert (taken(told(located("a")), slot, digest) == "a") == found


def test_the_newest_comes_first() -> None:
    handles = told(located("a"), located("b", "ask#2"), located("c", digest="other"))
    assert [taken(handles) for _ in range(3)] == ["b", "a", None]


def test_one_that_is_given_back_is_free_again_and_one_that_is_dropped_is_not() -> None:
    handles = told(located("a"))
    handle = handles.take("ask", "d")
    assert handle is not None
    handles.give_back(handle)
    assert handles.has("a") and taken(handles) == "a"
    handles.drop("a")
    assert not handles.has("a") and taken(handles) is None and handles.hold("a")


INPUTS, PAYLOAD = Inputs(digest="d"), Payload(size=1)
ENDS: list[tuple[LogEntry, bool]] = [
    (Done(id="x", at=2, slot="ask", inputs=INPUTS, payload=PAYLOAD, entries=(money("a", "paid"),)), False),
    (Done(id="x", at=2, slot="ask", inputs=INPUTS, payload=PAYLOAD, entries=(money("a"),)), False),
    (Rejected(id="x", at=2, slot="ask", target="t", why="w", entries=(money("a"),)), False),
    (Failed(id="x", at=2, slot="ask", error=Failure(type="E", message=""), entries=(money("a", "wasted"),)), False),
    (Intent(id="x", at=2, slot="ask", entries=(money("a", "wasted"), money("b"))), False),
    # not known to be no good:
    (Failed(id="x", at=2, slot="ask", error=Failure(type="E", message=""), entries=(money("a"),)), True),
    (Settled(id="x", at=2, slot="ask", entries=(money("a", "paid"),)), True),
    (Settled(id="x", at=2, slot="ask", entries=(money("a", "wasted"),)), False),
    (Intent(id="x", at=2, slot="ask", entries=(money("b"),)), True),
]


@pytest.mark.parametrize(("entry", "free"), ENDS, ids=lambda value: getattr(value, "k", value))
def test_it_is_free_until_its_answer_is_recorded_or_known_to_be_no_good(entry: LogEntry, free: bool) -> None:
    assert (taken(told(located("a"), entry)) == "a") == free


def test_one_that_somebody_is_at_is_nobody_elses() -> None:
    handles = told(located("a"))
    assert handles.hold("a") and not handles.hold("a")
    assert taken(handles) is None
    handles.release("a")
    assert taken(handles) == "a" and not handles.hold("a")

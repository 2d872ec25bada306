"""The rules of waits without a store: which are open, which one is meant, and when a suspended run goes on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcheckpoint.core import ids
from agentcheckpoint.core.journal import Call, Journal, Scope
from agentcheckpoint.core.lifecycle import due_after
from agentcheckpoint.core.models import Done, Inputs, LogEntry, Payload, Waiting
from agentcheckpoint.core.waits import Form, Given, Waits, choose, parse_given
from agentcheckpoint.errors import CheckpointCorrupt, Suspended

SLOTS = ("a", "b", "a/c", "b[k]/c", "b[k]")
NUMBERS = st.integers(0, 10_000)


def waiting(slot: str, n: int = 0, until: int | None = None, **more: Any) -> Waiting:
    return Waiting(id=f"w{n}", at=0, slot=slot, digest="d", until=until, **more)


def done(slot: str, n: int = 0) -> Done:
    return Done(id=f"d{n}", at=0, slot=slot, inputs=Inputs(digest="d"), payload=Payload(size=0))


@given(st.lists(st.tuples(st.sampled_from(SLOTS), st.booleans())))
def test_a_wait_is_open_until_its_slot_or_one_around_it_is_done(steps: list[tuple[str, bool]]) -> None:
    entries: list[LogEntry] = [waiting(slot, n) if w else done(slot, n) for n, (slot, w) in enumerate(steps)]
    waits = Waits(entries)
    model: dict[str, str] = {}
    closed: set[str] = set()
    for n, (slot, is_wait) in enumerate(steps):
        if is_wait:
            model[slot] = f"w{n}"
            closed.discard(slot)
        else:
            closed.add(slot)
    open_now = {slot: id for slot, id in model.items() if slot not in closed and not ids.is_inside(slot, closed)}
    assert {entry.slot: entry.id for entry in waits.open()} == open_now
    for slot in SLOTS:
        pending, last = waits.pending(slot), waits.last(slot)
        assert (pending.id if pending else None) == (model.get(slot) if slot not in closed else None)
        assert (last.id if last else None) == model.get(slot)


@given(
    st.lists(st.tuples(st.sampled_from(SLOTS), st.none() | NUMBERS, st.booleans()), unique_by=lambda w: w[0]), NUMBERS
)
def test_a_suspended_run_goes_on_when_the_first_of_its_waits_is_over(
    begun: list[tuple[str, int | None, bool]], now: int
) -> None:
    waits = Waits()
    for n, (slot, until, met) in enumerate(begun):
        entry = waiting(slot, n, until)
        waits.tell(entry)
        if met:
            waits.meet(entry)
    times = [until for _, until, met in begun if met and until is not None and until > now]
    due = due_after(Suspended("x"), "waiting", now, waits)
    assert due == min(times, default=None)
    assert due_after(Suspended("x", until_ms=3), "waiting", now, waits) == min([3, *times])
    assert due_after(Suspended("x", until_ms=3), "retryable", now, waits) is None
    assert due is None or due > now, "what is past is looked at by who waits for it: no worker spins"


@given(st.lists(st.sampled_from((*SLOTS, "x/y[a/b]", "z#2")), unique=True), st.text("abcxyzk[]/#2", max_size=8))
def test_a_name_means_one_wait_or_none(slots: list[str], name: str) -> None:
    waits = [waiting(slot, n) for n, slot in enumerate(slots)]
    found = choose(name, waits)
    if name in slots:
        assert found is not None and found.slot == name
    for slot in slots:
        named = choose(slot, waits)
        assert named is not None and named.slot == slot


@pytest.mark.parametrize(
    ("name", "slots", "meant"),
    [
        ("refund", ("refund/approve", "sure"), "refund/approve"),
        ("refund", ("refund[1]/approve", "refund[2]/approve"), None),
        ("refund[2]", ("refund[1]/approve", "refund[2]/approve"), "refund[2]/approve"),
        ("approve", ("refund[a/b]/approve",), "refund[a/b]/approve"),
        ("sure", ("sure", "do/sure"), "sure"),
        ("w", ("w#2",), "w#2"),
        ("w", (), None),
    ],
)
def test_what_people_write(name: str, slots: tuple[str, ...], meant: str | None) -> None:
    found = choose(name, [waiting(slot, n) for n, slot in enumerate(slots)])
    assert (found.slot if found else None) == meant


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_any_json_answers_a_question_without_a_type_and_comes_back(value: Any) -> None:
    from pydantic_core import to_json

    data, taken = Form[Any](Any).take(to_json(value).decode())
    assert taken == value
    line = Given(what="answer", answer=data.decode(), at=1).model_dump_json(exclude_none=True)
    assert parse_given(line.encode(), "r", "w").answer == data.decode()


@given(JSON)
def test_a_form_and_its_type_agree(value: Any) -> None:
    """What the JSON schema lets pass, the type takes; strictly more would be asked for again."""
    from pydantic_core import to_json

    from agentcheckpoint.core.fitting import misfits

    form = Form[Any](dict[str, int] | list[bool] | str)
    if not misfits(form.text(), value):
        assert form.take(to_json(value).decode())[1] == value


@pytest.mark.parametrize("line", [b"", b"{}", b'{"what":"maybe","at":1}', b"\xff"])
def test_what_somebody_else_wrote_is_corrupt(line: bytes) -> None:
    with pytest.raises(CheckpointCorrupt, match="cannot be read"):
        parse_given(line, "r", "w")


def test_an_attempt_rests_when_only_waits_and_what_is_around_them_are_under_way() -> None:
    journal, root = Journal(()), Scope()

    def begin(scope: Scope, name: str) -> Call:
        call = journal.call(scope, name, None, Inputs(digest="d"))
        journal.executes(call)
        return call

    outer, beside = begin(root, "outer"), begin(root, "beside")
    assert not journal.rest("outer/sure")
    journal.end(beside)
    assert journal.rest("outer/sure")
    other = begin(root, "other")
    assert not journal.rest("outer/sure")
    assert journal.rest("other/sure"), "each encloses a wait that rests"
    journal.rise("other/sure")
    assert not journal.rest("outer/sure")
    for call in (outer, other):
        journal.end(call)
    assert journal.rest("outer/sure")

"""Which calls a log leaves in doubt, and which call finds the doubt again."""

from __future__ import annotations

import pytest

from agentcheckpoint.core.doubt import Doubts
from agentcheckpoint.core.journal import Journal, Scope
from agentcheckpoint.core.models import (
    Done,
    Failed,
    Failure,
    Inputs,
    Intent,
    LedgerEntry,
    LogEntry,
    Payload,
    Rejected,
    Settled,
    Withdrawn,
)

ADA, BOB = Inputs(digest="ada"), Inputs(digest="bob")


def intent(slot: str = "mail", inputs: Inputs | None = ADA, overlap: bool = False) -> Intent:
    return Intent(id=f"i-{slot}", at=1, slot=slot, inputs=inputs, overlap=overlap)


def done(slot: str = "mail", inputs: Inputs = ADA) -> Done:
    return Done(id="d", at=1, slot=slot, inputs=inputs, payload=Payload(size=1))


def failed(in_doubt: bool | None = None) -> Failed:
    return Failed(id="f", at=1, slot="mail", error=Failure(type="E", message=""), in_doubt=in_doubt)


MONEY = LedgerEntry(id="m", bill="paid", slot="mail")


@pytest.mark.parametrize(
    ("log", "in_doubt"),
    [
        ([], False),
        ([intent()], True),
        ([intent(inputs=None)], True),
        ([intent(), done()], False),
        ([intent(), failed()], False),
        ([intent(), failed(in_doubt=True)], True),
        ([intent(), failed(in_doubt=True), failed()], False),
        ([intent(), Withdrawn(id="w", at=1, slot="mail")], False),
        ([intent(), Settled(id="s", at=1, slot="mail", entries=(MONEY,))], True),
        ([done(), intent()], True),
        ([intent(), done(), Rejected(id="r", at=1, slot="mail", target="d", why="")], False),
        ([intent(), done("mail#2"), done("other")], True),
        ([intent(), done(), intent()], True),
    ],
)
def test_an_intent_without_an_outcome_is_in_doubt(log: list[LogEntry], in_doubt: bool) -> None:
    assert (Journal(log).doubts.of("mail") is not None) == in_doubt


def test_an_equal_call_finds_its_doubt_whatever_the_order() -> None:
    journal, scope = Journal([intent("mail", ADA, True), intent("mail#2", BOB, True)]), Scope()
    assert [journal.call(scope, "mail", None, inputs).slot for inputs in (BOB, ADA)] == ["mail#2", "mail"]
    assert journal.call(scope, "mail", None, ADA).slot == "mail#3"


def test_a_call_with_other_inputs_meets_the_doubt_in_its_place() -> None:
    journal, scope = Journal([intent("mail", ADA)]), Scope()
    assert journal.call(scope, "mail", None, BOB).slot == "mail"
    assert journal.call(scope, "mail", None, ADA).slot == "mail#2"


def test_a_call_beside_which_others_were_made_is_not_mistaken_for_them() -> None:
    journal, scope = Journal([intent("mail", ADA, True), intent("mail#2", BOB, True)]), Scope()
    assert journal.call(scope, "mail", None, Inputs(digest="eve")).slot == "mail#3"


def test_a_recorded_slot_is_given_once_though_it_is_in_doubt_too() -> None:
    journal, scope = Journal([done(), intent()]), Scope()
    assert [journal.call(scope, "mail", None, ADA).slot for _ in range(2)] == ["mail", "mail#2"]


def test_a_long_log_costs_a_step_for_each_entry() -> None:
    doubts, told = Doubts(), 20_000
    for n in range(2, told):
        doubts.tell(intent(f"mail#{n}"))
        doubts.tell(done(f"mail#{n}"))
    assert doubts.placed("mail") == {}

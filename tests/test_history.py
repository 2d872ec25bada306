"""Real processes race for a few runs, are killed and stopped, and what they noted is compared with what is stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from faults import history
from faults.history_check import RULES, Final, check
from faults.history_diary import Diary, Kind, Note, read_diaries

SECONDS = 8.0


def test_what_eight_processes_were_told_agrees_with_what_is_stored() -> None:
    tally = history.search(SECONDS, number=1)
    assert not tally.violations, tally.violations[0]
    assert tally.deaths >= 5 and tally.notes["stopped"] >= 5, tally
    assert tally.notes["failed"] == 0, "a process ended with an error of its own"
    assert tally.notes["commit acknowledged"] > 50 and tally.notes["looked"] > 5 and tally.notes["seen"] > 50


def test_the_race_notices_a_load_that_counts_under_any_head() -> None:
    races = (history.search(SECONDS, number=n, variant="a-load-counts-under-any-head") for n in range(1, 4))
    assert any(tally.violations for tally in races), "one race of three, at least"


FINAL = Final(
    ids=("birth", "opened1", "e1", "e2", "opened2", "e3"),
    tokens=("1.a", "2.b"),
    slots={"e1": "s1", "e2": "s2", "e3": "s3"},
    results={"e1": "v1", "e2": "v2", "e3": "v3"},
)


def story() -> list[Note]:
    """Worker 1 does two steps, is stopped in a third, and loses the run to worker 2, who does it; worker 3 looks on."""
    notes: list[Note] = []

    def note(kind: Kind, who: int, **more: Any) -> None:
        notes.append(Note(kind, "r", at=len(notes), who=who, **more))

    note("claim begun", 1)
    note("claim acknowledged", 1, token="1.a")
    note("commit begun", 1, token="1.a", entry="e1", slot="s1")
    note("look begun", 3)
    note("commit acknowledged", 1, entry="e1", slot="s1")
    note("seen", 1, slot="s1", value="v1")
    note("commit begun", 1, token="1.a", entry="e2", slot="s2")
    note("looked", 3, ids=("birth", "opened1", "e1"))
    note("commit acknowledged", 1, entry="e2", slot="s2")
    note("commit begun", 1, token="1.a", entry="lost", slot="s3")
    note("claim begun", 2)
    note("claim acknowledged", 2, token="2.b")
    note("commit failed", 1, entry="lost", slot="s3", error="LeaseLost")
    note("commit begun", 2, token="2.b", entry="e3", slot="s3")
    note("commit acknowledged", 2, entry="e3", slot="s3")
    note("seen", 2, slot="s3", value="v3")
    note("look begun", 3)
    note("looked", 3, ids=FINAL.ids)
    return notes


def test_a_good_history_is_good() -> None:
    assert check(story(), FINAL) == []


def changed(at: int, **fields: Any) -> list[Note]:
    notes = story()
    notes[at] = dataclasses.replace(notes[at], **fields)
    return notes


BAD: dict[str, tuple[str, list[Note], Final]] = {
    "an acknowledged commit is missing": (
        "each_acknowledged_commit_is_in_the_log_once",
        story(),
        dataclasses.replace(FINAL, ids=("birth", "opened1", "e1", "opened2", "e3")),
    ),
    "a commit stands there twice": (
        "each_acknowledged_commit_is_in_the_log_once",
        story(),
        dataclasses.replace(FINAL, ids=(*FINAL.ids, "e3")),
    ),
    "a commit that was refused is there": (
        "what_was_said_not_to_be_stored_is_not",
        story(),
        dataclasses.replace(FINAL, ids=(*FINAL.ids, "lost")),
    ),
    "a commit that was superseded is there": (
        "what_was_said_not_to_be_stored_is_not",
        changed(12, kind="commit superseded", error=""),
        dataclasses.replace(FINAL, ids=(*FINAL.ids, "lost")),
    ),
    "a record is nobody's": (
        "each_record_is_somebodys",
        story(),
        dataclasses.replace(FINAL, ids=(*FINAL.ids, "x"), slots={**FINAL.slots, "x": "s9"}),
    ),
    "a step has two records": (
        "each_step_has_one_record",
        story(),
        dataclasses.replace(FINAL, slots={**FINAL.slots, "e3": "s1"}),
    ),
    "the log is not in the order of time": (
        "the_log_is_in_the_order_of_time",
        story(),
        dataclasses.replace(FINAL, ids=("birth", "opened1", "e2", "e1", "opened2", "e3")),
    ),
    "a token is not listed": (
        "tokens_are_listed_in_the_order_of_claims",
        story(),
        dataclasses.replace(FINAL, tokens=("1.a",)),
    ),
    "the tokens are in another order": (
        "tokens_are_listed_in_the_order_of_claims",
        story(),
        dataclasses.replace(FINAL, tokens=("1.b", "2.a")),
    ),
    "a later claim has an earlier token": (
        "tokens_are_listed_in_the_order_of_claims",
        [*changed(11, token="1.a"), dataclasses.replace(story()[1], token="2.b")],
        FINAL,
    ),
    "an epoch was given out twice": (
        "tokens_are_listed_in_the_order_of_claims",
        story(),
        dataclasses.replace(FINAL, tokens=("1.a", "1.b")),
    ),
    "a replaced worker's commit counts": (
        "no_commit_counts_that_began_after_its_worker_was_replaced",
        changed(13, token="1.a", who=1),
        FINAL,
    ),
    "a value was seen that is not recorded": ("each_value_seen_is_the_recorded_one", changed(5, value="other"), FINAL),
    "a value was seen of a step without a record": (
        "each_value_seen_is_the_recorded_one",
        changed(5, slot="s9"),
        FINAL,
    ),
    "somebody was shown another log": (
        "what_is_shown_is_the_beginning_of_the_log",
        changed(7, ids=("birth", "e1")),
        FINAL,
    ),
    "somebody was not shown what was acknowledged": (
        "what_is_shown_is_the_beginning_of_the_log",
        changed(17, ids=("birth", "opened1", "e1")),
        FINAL,
    ),
    "somebody was told of a loss": ("nobody_is_told_of_a_loss", changed(12, error="CheckpointsLost"), FINAL),
}
"""The rule that has to object, what was noted, and what is stored."""


@pytest.mark.parametrize("what", BAD)
def test_a_bad_history_is_bad(what: str) -> None:
    rule, notes, final = BAD[what]
    said = check(notes, final)
    assert any(sentence.startswith(f"{rule}: ") for sentence in said), said


def test_each_rule_has_a_history_that_breaks_it() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _, _ in BAD.values()}


def test_a_diary_survives_its_writer_up_to_the_last_whole_line(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    diary.note("seen", "r", slot="s", value="v")
    diary.note("looked", "r", ids=("a", "b"))
    with next(tmp_path.iterdir()).open("ab") as file:
        file.write(b'{"kind": "se')
    first, second = read_diaries(tmp_path)
    assert (first.kind, first.slot, first.value, second.ids) == ("seen", "s", "v", ("a", "b"))
    assert first.at <= second.at

"""What people see of a run's log: one row per slot, in a table that fits and that no stored text can escape."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcheckpoint.core.models import (
    Bill,
    Birth,
    Closed,
    Done,
    Failed,
    Failure,
    Inputs,
    Intent,
    LedgerEntry,
    LogEntry,
    Opened,
    Payload,
    Rejected,
    Restarted,
    StepKind,
    Usage,
)
from agentcheckpoint.show.layout import plain
from agentcheckpoint.show.text import StepRow, step_rows, table

USAGE = Usage(input_tokens=1_200, output_tokens=310, cached_tokens=900)


def money(
    attempt: str, bill: Bill, cost: int | None = None, slot: str = "plan", usage: Usage | None = None
) -> LedgerEntry:
    return LedgerEntry(id=attempt, bill=bill, slot=slot, cost=cost, usage=usage, at=77)


def intent(at: int, *entries: LedgerEntry, slot: str = "plan") -> Intent:
    return Intent(id=f"i{at}", at=at, slot=slot, entries=entries)


def done(
    at: int, *entries: LedgerEntry, slot: str = "plan", kind: StepKind = "llm", ms: int = 0, size: int = 0
) -> Done:
    payload = Payload(size=size)
    return Done(
        id=f"d{at}", at=at, slot=slot, kind=kind, inputs=Inputs(digest="0"), payload=payload, ms=ms, entries=entries
    )


def failed(at: int, *entries: LedgerEntry, slot: str = "plan", kind: StepKind = "llm", ms: int = 0) -> Failed:
    error = Failure(type="ValueError", message="no")
    return Failed(id=f"f{at}", at=at, slot=slot, kind=kind, error=error, ms=ms, entries=entries)


def rejected(at: int, target: str, *entries: LedgerEntry, slot: str = "plan") -> Rejected:
    return Rejected(id=f"r{at}", at=at, slot=slot, target=target, why="wrong", entries=entries)


def only(entries: list[LogEntry]) -> StepRow:
    (row,) = step_rows(entries)
    return row


def test_a_step_that_ran_is_done_with_its_size_time_and_money() -> None:
    log: list[LogEntry] = [
        intent(1, money("a", "unresolved")),
        done(2, money("a", "paid", 9_000_000, usage=USAGE), ms=3_100, size=2_048),
    ]
    assert only(log) == StepRow(
        slot="plan",
        kind="llm",
        outcome="done",
        attempts=1,
        ms=3_100,
        usage=USAGE,
        cost=9_000_000,
        priced=True,
        size=2_048,
        at=2,
    )


def test_rows_stand_in_the_order_in_which_slots_first_appear() -> None:
    log: list[LogEntry] = [
        Birth(id="b", at=0, namespace="n", run="r"),
        Opened(id="o", at=0, attempt=1, worker="w"),
        intent(1, slot="b"),
        done(2, slot="a"),
        done(3, slot="b"),
        Closed(id="c", at=4, state="completed"),
    ]
    assert [row.slot for row in step_rows(log)] == ["b", "a"]


def test_an_intent_without_an_end_is_unfinished_and_its_money_is_not_known() -> None:
    row = only([intent(1, money("a", "unresolved"))])
    assert (row.outcome, row.kind, row.attempts, row.cost, row.priced, row.size) == (
        "unfinished",
        None,
        1,
        None,
        False,
        None,
    )


def test_a_step_that_buys_nothing_costs_nothing_known_and_nothing_unknown() -> None:
    row = only([done(1, kind="step")])
    assert (row.cost, row.priced, row.usage) == (None, True, None)


def test_each_try_counts_once_whether_its_intent_was_recorded_or_not() -> None:
    with_intents = only([intent(1), failed(2), intent(3), intent(4), done(5)])
    without = only([failed(1, kind="step"), failed(2, kind="step"), done(3, kind="step")])
    assert (with_intents.attempts, without.attempts) == (3, 3)


def test_attempts_to_pay_that_one_try_made_are_attempts() -> None:
    entries = [money("a", "not_billed"), money("b", "not_billed"), money("c", "paid", 5)]
    assert only([intent(1), done(2, *entries)]).attempts == 3


def test_the_last_word_of_the_log_is_the_outcome() -> None:
    assert only([intent(1), failed(2)]).outcome == "failed"
    assert only([intent(1), failed(2), intent(3)]).outcome == "unfinished"
    assert only([intent(1), failed(2), done(3, size=7)]).outcome == "done"


def test_a_rejected_answer_leaves_no_result_and_its_money_as_spent() -> None:
    paid, wasted = money("a", "paid", 5, usage=USAGE), money("a", "wasted", 5, usage=USAGE)
    row = only([intent(1), done(2, paid, size=9), rejected(3, "d2", wasted)])
    assert (row.outcome, row.size, row.cost, row.usage, row.attempts, row.at) == ("rejected", None, 5, USAGE, 1, 3)


def test_a_late_rejection_of_an_answer_that_was_replaced_changes_nothing_but_money() -> None:
    first, second = done(1, money("a", "paid", 5)), done(3, money("b", "paid", 5), size=9)
    row = only([first, rejected(2, "d1"), second, rejected(4, "d1")])
    assert (row.outcome, row.size, row.cost, row.attempts) == ("done", 9, 10, 2)


def test_a_cost_is_the_whole_only_if_every_attempt_has_one() -> None:
    some = only([done(1, money("a", "wasted"), money("b", "paid", 5))])
    none = only([done(1, money("a", "paid"))])
    free = only([done(1, money("a", "not_billed"), money("b", "paid", 0))])
    assert [(row.cost, row.priced) for row in (some, none, free)] == [(5, False), (None, False), (0, True)]


def test_money_told_late_or_by_another_entry_goes_to_the_slot_it_was_spent_on() -> None:
    log: list[LogEntry] = [
        intent(1, money("a", "unresolved", slot="a"), slot="a"),
        intent(2, money("a", "wasted", 5, slot="a"), slot="b"),
        Closed(id="c", at=3, state="retryable", entries=(money("z", "wasted", 7, slot="z"),)),
    ]
    rows = {row.slot: row for row in step_rows(log)}
    assert [(slot, row.cost, row.at) for slot, row in rows.items()] == [("a", 5, 1), ("b", None, 2), ("z", 7, 77)]


def test_of_what_was_recorded_before_a_run_was_begun_afresh_the_money_alone_is_told() -> None:
    paid, free = done(1, money("m", "paid", 5, slot="a"), slot="a"), done(2, slot="free")
    log = [paid, free, Restarted(id="r", at=3), done(4, slot="b")]
    rows = {row.slot: row for row in step_rows(log)}
    assert {slot: row.outcome for slot, row in rows.items()} == {"b": "done", "a": "unfinished"}
    assert (rows["a"].cost, rows["a"].size, rows["b"].cost) == (5, None, None)


ROWS = step_rows(
    [
        intent(1, money("a", "unresolved")),
        done(2, money("a", "paid", 9_000_000, usage=USAGE), ms=3_100, size=2_048),
        done(3, slot="fetch[https://example.org/a]", kind="tool", ms=120, size=80),
        intent(4, slot="think"),
        failed(5, money("b", "wasted", 2_000_000, "think"), money("c", "paid", None, "think"), slot="think", ms=92_000),
        intent(6, money("d", "unresolved", slot="answer"), slot="answer"),
    ]
)


def test_the_table_fits_its_columns_to_what_they_hold() -> None:
    assert table(ROWS, 200).splitlines() == [
        "step                          kind  outcome     tries    time                 tokens      cost  size",
        "plan                          llm   done            1    3.1s  1.2k→310 (900 cached)    $0.009  2 KB",
        "fetch[https://example.org/a]  tool  done            1   120ms                                   80 B",
        "think                         llm   failed          2  1m 32s                         ≥ $0.002",
        "answer                              unfinished      1                                        —",
    ]


def test_a_narrow_table_cuts_the_step_first_then_drops_what_matters_least() -> None:
    assert table(ROWS, 42).splitlines() == [
        "step           outcome     tries      cost",
        "plan           done            1    $0.009",
        "fetch[https:…  done            1",
        "think          failed          2  ≥ $0.002",
        "answer         unfinished      1         —",
    ]


def test_a_run_without_steps_says_so() -> None:
    assert table([], 80) == "no steps recorded"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b31m\x00", "\\x9b31m\\x00"),
        ("a\u2028b\ud800", "a\\u2028b\\ud800"),
        ("fetch[naïve, 文]", "fetch[naïve, 文]"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_not(hostile: str, shown: str) -> None:
    assert plain(hostile) == shown
    assert table(step_rows([done(1, slot=hostile)]), 120).splitlines()[1].startswith(shown + " ")


def shown_width(line: str) -> int:
    spaced = [char for char in line if unicodedata.category(char) not in ("Mn", "Me")]  # a wide accent takes no room
    return len(spaced) + sum(unicodedata.east_asian_width(char) in "WF" for char in spaced)


def test_an_accent_takes_no_room_though_it_counts_as_wide() -> None:
    [_, line] = table(step_rows([done(1, slot="0\u3099")]), 1).split("\n")
    assert line == "0\u3099" and shown_width(line) == 1


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5, unique=True), st.integers(1, 130))
def test_no_stored_text_makes_a_line_wider_than_asked_or_adds_one(slots: list[str], width: int) -> None:
    lines = table(step_rows([done(at, slot=slot) for at, slot in enumerate(slots)]), width).split("\n")
    assert len(lines) == len(slots) + 1
    assert all(shown_width(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)


def test_wide_letters_keep_the_columns_in_line() -> None:
    lines = table(step_rows([done(1, slot="文献"), done(2, slot="abcd")]), 80).splitlines()
    assert lines[1].index("llm") + 2 == lines[2].index("llm")


@pytest.mark.parametrize(
    ("ms", "text"),
    [(999, "999ms"), (1_000, "1.0s"), (59_949, "59.9s"), (59_950, "1m 00s"), (3_600_000, "60m 00s")],
)
def test_times_read_as_people_write_them(ms: int, text: str) -> None:
    assert f" {text}" in table(step_rows([done(1, ms=ms)]), 120)

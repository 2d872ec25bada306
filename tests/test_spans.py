"""When steps were at work, and the bars that show it: by hand-made logs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcheckpoint.core.models import (
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
    Restarted,
    Withdrawn,
)
from agentcheckpoint.core.spans import LONGEST_IDLE_MS, Break, Span, Timeline, timeline
from agentcheckpoint.show.bars import waterfall
from agentcheckpoint.show.layout import columns_of
from agentcheckpoint.show.picture import waterfall_picture
from agentcheckpoint.show.telling import entry_text

BIRTH = Birth(id="b", at=0, namespace="default", run="r")


def opened(at: int, number: int = 1) -> Opened:
    return Opened(id=f"o{number}", at=at, attempt=number, worker="me")


def done(slot: str, at: int, ms: int = 0, **more: Any) -> Done:
    return Done(id=slot, at=at, slot=slot, inputs=Inputs(digest=""), payload=Payload(size=1), ms=ms, **more)


def failed(slot: str, at: int, ms: int = 0) -> Failed:
    return Failed(id=slot, at=at, slot=slot, error=Failure(type="E", message="m\x1b"), ms=ms)


def intent(slot: str, at: int) -> Intent:
    return Intent(id=slot, at=at, slot=slot)


def closed(at: int) -> Closed:
    return Closed(id="c", at=at, state="retryable")


def spans(log: list[LogEntry]) -> list[tuple[str, str, int, int]]:
    found = timeline(log)
    return [(found.lanes[span.lane], span.how, span.began, span.ended) for span in found.spans]


def test_a_lane_for_each_step_and_a_span_for_each_try() -> None:
    log: list[LogEntry] = [BIRTH, opened(1000), done("a", 1100, 100), failed("b", 1300, 200), done("b", 1400, 50)]
    found = timeline(log)
    assert (found.lanes, found.breaks, found.length, found.elapsed) == (("a", "b"), (), 400, 400)
    assert found.spans == (
        Span(0, "done", False, 0, 100),
        Span(1, "failed", False, 100, 300),
        Span(1, "done", False, 350, 400),
    )
    assert found.took() == [100, 250]


def test_steps_that_overlap_keep_their_places_and_who_began_first_comes_first() -> None:
    found = timeline([opened(1000), done("inner", 1100, 50), done("outer", 1200, 200)])
    assert found.lanes == ("outer", "inner")
    assert [(span.began, span.ended) for span in found.spans] == [(50, 100), (0, 200)]


def test_a_day_between_two_attempts_is_cut_short_and_named() -> None:
    day = 86_400_000
    log: list[LogEntry] = [BIRTH, opened(1000), done("a", 1300, 200), closed(1500), opened(day, 2)]
    log += [done("b", day + 400, 100), closed(day + 500)]
    found = timeline(log)
    idle = day - 1000
    assert spans(log) == [("a", "done", 0, 200), ("b", "done", 200 + LONGEST_IDLE_MS, 300 + LONGEST_IDLE_MS)]
    assert found.breaks == (Break(200 + LONGEST_IDLE_MS // 2, idle),)
    assert (found.length, found.elapsed) == (300 + LONGEST_IDLE_MS, day + 400 - 1100)


def test_idle_time_within_an_attempt_is_cut_too() -> None:
    found = timeline([opened(0), done("a", 100, 100), done("b", 9000, 100)])
    assert found.breaks == (Break(100 + LONGEST_IDLE_MS // 2, 8800),) and found.elapsed == 9000


def test_what_a_dead_worker_left_is_unfinished_up_to_its_last_word() -> None:
    log: list[LogEntry] = [BIRTH, opened(0), intent("a", 100), done("b", 300, 100), opened(360, 2), intent("a", 370)]
    log += [failed("a", 500, 130)]
    assert spans(log) == [("b", "done", 100, 200), ("a", "unfinished", 0, 200), ("a", "failed", 270, 400)]


def test_a_call_that_was_not_made_is_no_span_and_one_under_way_is() -> None:
    log: list[LogEntry] = [BIRTH, opened(0), intent("a", 100), Withdrawn(id="w", at=200, slot="a"), intent("b", 250)]
    assert spans([*log, done("c", 400, 50)]) == [("c", "done", 100, 150), ("b", "unfinished", 0, 150)]


def test_what_may_have_been_billed_counts_as_paid_and_what_was_not_billed_does_not() -> None:
    def money(bill: Any) -> tuple[LedgerEntry, ...]:
        return (LedgerEntry(id="m", bill=bill, slot="a"),)

    log: list[LogEntry] = [opened(0), done("a", 1, entries=money("paid")), done("b", 2, entries=money("not_billed"))]
    log += [Intent(id="c", at=3, slot="c", entries=money("unresolved"))]
    assert [span.paid for span in timeline(log).spans] == [True, False, True]


@pytest.mark.parametrize(("at", "ms"), [(50, 900), (2000, 0), (1000, 5000)])
def test_no_span_lies_outside_of_its_attempt_whatever_the_clocks_said(at: int, ms: int) -> None:
    found = timeline([BIRTH, opened(1000), done("z", 1000), done("a", at, ms)])
    assert 0 <= found.length <= found.elapsed <= 1000


def test_what_was_begun_afresh_taken_over_or_given_was_no_work_of_this_run() -> None:
    assert spans([BIRTH, done("a", 10, 5), opened(1000), done("b", 1100, 100)]) == [("b", "done", 0, 100)]
    fresh: list[LogEntry] = [opened(0), done("a", 100, 100), Restarted(id="r", at=150), opened(200)]
    fresh += [done("b", 300, 100)]
    assert spans(fresh) == [("b", "done", 0, 100)]
    given = [done("a", 100, 100, elsewhere=()), done("b", 300, 100, overridden=True)]
    assert timeline([opened(0), *given]) == Timeline((), (), (), 0, 0)
    assert timeline([opened(0), done("a", 1, 1)], ["other"]).spans == ()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**9), st.integers(0, 10**7)), max_size=30))
def test_order_is_kept_and_idle_time_alone_is_cut(tries: list[tuple[str, int, int]]) -> None:
    entries = [done(slot, end, min(ms, end)) for slot, end, ms in tries]
    found = timeline([opened(0), *entries])
    for entry, span in zip(entries, found.spans, strict=True):
        assert span.ms == entry.ms and found.lanes[span.lane] == entry.slot, "working time is drawn as it was"
    moments = sorted((entry.at, span.ended) for entry, span in zip(entries, found.spans, strict=True))
    assert [drawn for _, drawn in moments] == sorted(drawn for _, drawn in moments)
    most = max(LONGEST_IDLE_MS, sum(found.took()) // 4)
    assert found.length <= found.elapsed <= found.length + sum(gap.ms for gap in found.breaks)
    assert all(gap.ms > LONGEST_IDLE_MS and gap.at <= found.length for gap in found.breaks)
    moving = sorted({*(span.began for span in found.spans), *(span.ended for span in found.spans)})
    covered = [any(s.began <= low and high <= s.ended for s in found.spans) for low, high in pairwise(moving)]
    assert all(held or high - low <= most for held, (low, high) in zip(covered, pairwise(moving), strict=True))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_bars_fit_begin_and_end_where_the_spans_do_and_nothing_in_a_name_is_obeyed(width: int) -> None:
    found = [Span(0, "done", False, 0, 500), Span(1, "failed", False, 500, 1000), Span(2, "done", False, 1000, 1000)]
    found += [Span(2, "unfinished", False, 0, 1)]
    layout = Timeline(("a" * 90, "b\x1b[2J", "z"), tuple(found), (), 1000, 1000)
    lines = ["".join(text for text, _ in line) for line in waterfall(layout, width)]
    assert max(map(columns_of, lines)) == width and "\x1b" not in "".join(lines)
    room = lines[0].index("0s")
    first, second, third = (line[room : width - 9] for line in lines[1:])
    assert first.rstrip() == "█" * -(-len(first) // 2)
    assert second.strip() == "▒" * len(second.strip()) and second[-1] == "▒" and second[0] == " "
    assert third[0] == "░" and third[-1] == "█" and third[1:-1].strip() == ""
    assert waterfall(timeline([]), width) == []


def test_text_and_picture_draw_the_same_tries_and_both_name_the_break() -> None:
    log: list[LogEntry] = [BIRTH, opened(0), done("a", 1000, 1000), intent("b", 1000), opened(3_601_000, 2)]
    log += [failed("b", 3_601_500, 500), done("b", 3_602_000, 500)]
    layout = timeline(log)
    head, first, second, told = ("".join(text for text, _ in line) for line in waterfall(layout, 60))
    assert head.endswith("60m 02s") and told == "┊ 60m 00s in which nothing happened"
    assert first.count("┊") == second.count("┊") == 1 and first.index("┊") == second.index("┊")
    assert [mark in second for mark in "█▒░"] == [True, True, True]
    picture = ET.fromstring(str(waterfall_picture(layout)))
    said = [part.text or "" for part in picture.iter() if part.tag.endswith(("title", "}text"))]
    assert "60m 00s later" in said
    told_of = ["a: done, 1.0s", "b: unfinished, 0ms", "b: failed, 500ms", "b: done, 500ms"]
    assert [text for text in said if ": " in text and "steps ran" not in text] == told_of


def test_each_kind_of_entry_is_a_line_or_none() -> None:
    told = {entry.k: entry_text(entry) for entry in (BIRTH, opened(0), done("a", 1, 1500), failed("a", 1), closed(2))}
    assert told == {
        "birth": "begun",
        "opened": "attempt 1 opened by me",
        "done": "a done (1.5s)",
        "failed": "a failed: E: m\\x1b",
        "closed": "retryable",
    }
    assert entry_text(Withdrawn(id="w", at=0, slot="a")) is None

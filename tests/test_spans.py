"""When steps were at work, and the bars that show it: by hand-made logs."""

from __future__ import annotations

from typing import Any

import pytest

from agentcheckpoint.core.models import (
    Birth,
    Closed,
    Done,
    Failed,
    Failure,
    Inputs,
    Intent,
    LogEntry,
    Opened,
    Payload,
    Withdrawn,
)
from agentcheckpoint.core.spans import Span, spans
from agentcheckpoint.show.bars import waterfall
from agentcheckpoint.show.layout import columns_of
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


def test_the_clock_stands_still_between_attempts() -> None:
    day = 86_400_000
    log: list[LogEntry] = [BIRTH, opened(1000), done("a", 1300, 200), closed(1500), opened(day, 2)]
    log += [done("b", day + 400, 100), closed(day + 500)]
    assert spans(log) == [Span("a", "done", 100, 300), Span("b", "done", 800, 900)]


def test_what_a_dead_worker_left_is_unfinished_up_to_its_last_word() -> None:
    log: list[LogEntry] = [BIRTH, opened(0), intent("a", 100), done("b", 300, 100), opened(9000, 2), intent("a", 9100)]
    log += [failed("a", 9300, 150)]
    assert spans(log) == [
        Span("b", "done", 200, 300),
        Span("a", "unfinished", 100, 300),
        Span("a", "failed", 450, 600),
    ]


def test_a_call_that_was_not_made_is_no_span_and_one_under_way_is() -> None:
    log: list[LogEntry] = [BIRTH, opened(0), intent("a", 100), Withdrawn(id="w", at=200, slot="a"), intent("b", 250)]
    assert spans([*log, done("c", 400, 50)]) == [Span("c", "done", 350, 400), Span("b", "unfinished", 250, 400)]


@pytest.mark.parametrize(("at", "ms"), [(50, 900), (2000, 0), (1000, 5000)])
def test_no_span_lies_outside_of_its_attempt_whatever_the_clocks_said(at: int, ms: int) -> None:
    (found,) = spans([BIRTH, opened(1000), done("a", at, ms)])
    assert 0 <= found.began <= found.ended <= 1000


def test_what_was_taken_over_by_a_fork_was_no_work_of_this_run() -> None:
    assert spans([BIRTH, done("a", 10, 5), opened(1000), done("b", 1100, 100)]) == [Span("b", "done", 0, 100)]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_bars_fit_begin_and_end_where_the_spans_do_and_nothing_in_a_name_is_obeyed(width: int) -> None:
    found = [Span("a" * 90, "done", 0, 500), Span("b\x1b[2J", "failed", 500, 1000), Span("z", "done", 1000, 1000)]
    found += [Span("z", "unfinished", 0, 1)]
    lines = ["".join(text for text, _ in line) for line in waterfall(found, width)]
    assert max(map(columns_of, lines)) == width and "\x1b" not in "".join(lines)
    room = lines[0].index("0s")
    first, second, third = (line[room : width - 9] for line in lines[1:])
    assert first.rstrip() == "█" * -(-len(first) // 2)
    assert second.strip() == "▒" * len(second.strip()) and second[-1] == "▒" and second[0] == " "
    assert third[0] == "░" and third[-1] == "█" and third[1:-1].strip() == ""
    assert waterfall([], width) == []


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

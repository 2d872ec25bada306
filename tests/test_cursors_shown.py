"""What is under way is shown by ac.get, and a loop's progress by a line on a terminal."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from memory_runs import ask, fresh

import agentcheckpoint as ac
from agentcheckpoint.core.ids import run_tag
from agentcheckpoint.progress import Progress, line_of
from agentcheckpoint.store.keys import RunKeys


def stop_in(url: str, ordered: bool, at: int = 2) -> None:
    with pytest.raises(KeyboardInterrupt), ac.run("r", store=url) as run:
        for number in run.cursor("index", range(5), key=str, ordered=ordered):
            if number == at:
                raise KeyboardInterrupt


@pytest.mark.parametrize(("ordered", "kind"), [(True, "ordered"), (False, "unordered")])
def test_a_loop_under_way_is_shown_with_how_many_items_passed(ordered: bool, kind: str) -> None:
    url = fresh()
    stop_in(url, ordered)
    view = ac.get("r", store=url)
    (row,) = view.cursors
    assert (row.slot, row.kind, row.value) == ("index", kind, "2 done") and row.at > 0
    assert str(view).splitlines()[-1] == "in progress: index at 2 done"
    with ac.run("r", store=url) as run:
        list(run.cursor("index", range(5), key=str, ordered=ordered))
    assert ac.get("r", store=url).cursors == () and "in progress" not in str(ac.get("r", store=url))


def test_a_value_is_shown_as_it_is_stored_escaped_and_cut() -> None:
    url = fresh()

    def write(text: str) -> None:
        ac.Cursor(str, start="").set(text)
        raise KeyboardInterrupt

    for text in ("a\x1b[31m\n", "x" * 5000):
        with pytest.raises(KeyboardInterrupt), ac.run("r", store=url, on_mismatch="rerun") as run:
            run.step("write", write, text)
        view = ac.get("r", store=url)
        assert [row.slot for row in view.cursors] == ["write"] and len(view.cursors[0].value) <= 200
        last = str(view).splitlines()[-1]
        assert last.startswith("in progress: write at ") and "\x1b" not in str(view) and len(last) <= 100


def test_a_cursor_of_before_a_new_beginning_is_not_shown() -> None:
    url = fresh()
    stop_in(url, True)
    with pytest.raises(ValueError), ac.run("r", store=url, on_existing="fresh"):
        raise ValueError
    assert ac.get("r", store=url).cursors == ()


def test_a_loops_position_that_is_none_is_shown_as_such_and_refused_by_the_loop() -> None:
    url = fresh()
    stop_in(url, True)
    keys = RunKeys(run_tag("default", "r"))
    meta = keys.meta(ask(url, "GET", keys.head).decode())
    text = ask(url, "HGET", meta, "cursor:index").decode().replace(r"{\"done\":2", r"{\"done\":-2")
    ask(url, "HSET", meta, "cursor:index", text)
    assert [row.value for row in ac.get("r", store=url).cursors] == ["?"]
    with pytest.raises(ac.CheckpointCorrupt, match="does not fit its type"), ac.run("r", store=url) as run:
        list(run.cursor("index", range(5), key=str))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal_with_count_total_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    out, now = Terminal(), [100.0]
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr("agentcheckpoint.progress.time.monotonic", lambda: now[0])
    line = Progress("index", 8)
    for done in range(3, 7):  # two had passed in an attempt before
        now[0] += 0.5
        line.at(done)
    line.end(6)
    shown = out.getvalue()
    assert shown.count("\n") == 1 and shown.endswith("\n")
    assert [part.strip() for part in shown.split("\r")[1:]] == [
        "index: 3 of 8 (37%), 2.0 a second",
        "index: 4 of 8 (50%), 2.0 a second",
        "index: 5 of 8 (62%), 2.0 a second",
        "index: 6 of 8 (75%), 2.0 a second",
        "index: 6 of 8 (75%), 2.0 a second",
    ]


def test_without_a_total_and_for_many_items() -> None:
    assert line_of("index", 1_234, None, 56.4) == "index: 1,234, 56 a second"
    assert line_of("index", 0, 0, 0) == "index: 0 of 0, 0.0 a second"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_a_loop_shows_its_progress_if_asked_and_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, asked: bool
) -> None:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    with ac.run("r", store=fresh()) as run:
        assert len(list(run.cursor("index", [1, 2, 3], progress=asked))) == 3
    assert ("index: 3 of 3 (100%)" in out.getvalue()) is (terminal and asked) and bool(out.getvalue()) is (
        terminal and asked
    )


def test_progress_imports_nothing_heavy() -> None:
    code = "import agentcheckpoint.progress, sys; print([m for m in ('rich', 'tqdm', 'IPython') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

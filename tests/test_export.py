"""Runs as files: what comes back is the same run, and what is no whole run is refused before anything is written."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from memory_runs import ask, fresh

import agentcheckpoint as ac
from agentcheckpoint.core import exported
from agentcheckpoint.store import exporting, whole
from agentcheckpoint.store.effects import Lost
from agentcheckpoint.store.index import listed_runs
from agentcheckpoint.testing.crashing import crash

calls: list[str] = []


def work(name: str) -> str:
    calls.append(name)
    return name.upper()


def life(url: str, run_id: str = "r", namespace: str = "default") -> str:
    with ac.run(run_id, store=url, namespace=namespace, metadata={"user": "42"}) as run:
        first = run.step("plan", work, "plän")
        second = run.llm(ac.Step("fetch", key="u1", cost="0.25"), work, "fetch")
        run.finish(first + second)
        return first + second


@pytest.fixture
def url() -> str:
    calls.clear()
    return fresh()


@pytest.fixture
def file(url: str, tmp_path: Path) -> Path:
    """A run of three attempts: one was killed while it paid, one was interrupted, one went on."""
    with crash("fetch", at="before commit"):
        life(url)
    life(url)
    path = tmp_path / "run.jsonl"
    ac.export_run("r", path, store=url)
    calls.clear()
    return path


def test_an_imported_run_is_the_same_with_its_money_and_replays(url: str, file: Path) -> None:
    other = fresh()
    assert ac.import_run(file, store=other) == "r"
    assert ac.get("r", store=other) == ac.get("r", store=url)
    assert [*listed_runs(ac.connect(other), "default")] == ["r"]
    assert life(other) == "PLÄNFETCH" and not calls
    assert str(ac.get("r", store=other).cost).startswith("spent $0.25")


def test_a_file_has_no_key_and_no_token(url: str, file: Path) -> None:
    text = file.read_text("utf-8")
    assert "ac:{" not in text and all(
        token.decode() not in text for token in ask(url, "LRANGE", tokens(url), "0", "-1")
    )
    assert file.stat().st_mode & 0o077 == 0, "it holds prompts: its owner's alone"


def tokens(url: str) -> str:
    return next(key.decode() for key in ask(url, "KEYS", "*") if key.endswith(b":tokens"))


def test_it_can_have_another_name_and_go_on_there(url: str, file: Path) -> None:
    ac.import_run(file, store=url, as_="copy", namespace="audit")
    assert life(url, "copy", "audit") == "PLÄNFETCH" and not calls
    again = io.StringIO()
    ac.export_run("copy", again, store=url, namespace="audit")
    assert ac.import_run(io.StringIO(again.getvalue()), store=fresh()) == "copy"


def test_an_unfinished_run_goes_on_where_it_was(url: str, tmp_path: Path) -> None:
    with crash("plan"):
        life(url)
    ac.export_run("r", tmp_path / "r", store=url)
    other = fresh()
    ac.import_run(tmp_path / "r", store=other)
    assert ac.get("r", store=other).state == "running"
    assert life(other) == "PLÄNFETCH" and calls == ["plän", "fetch"]


def test_what_lies_beside_the_log_comes_along(url: str) -> None:
    def wait(where: str) -> str:
        with ac.run("w", store=where) as run:
            return run.wait_for("ok?", str)

    with pytest.raises(ac.Suspended):
        wait(url)
    ac.answer("w", "ok?", "yes", store=url)
    booked = {"id": "x", "bill": "wasted", "slot": "plan", "cost": 7, "at": 1}
    ask(url, "HSET", tokens(url).replace("tokens", "waste"), "x", json.dumps(booked))
    text, other = io.StringIO(), fresh()
    ac.export_run("w", text, store=url)
    ac.import_run(io.StringIO(text.getvalue()), store=other)
    assert ac.get("w", store=other).ledger == ac.get("w", store=url).ledger != ()
    assert wait(other) == "yes"


def test_a_loop_goes_on_at_its_cursor(url: str) -> None:
    met: list[int] = []

    def loop(where: str, stop: int) -> None:
        def body() -> int:
            cursor = ac.Cursor(int, start=0)
            for n in range(cursor.value, 6):
                if n == stop:
                    raise ac.Interrupted("enough")
                met.append(n)
                cursor.set(n + 1)
            return cursor.value

        with ac.run("loop", store=where) as run:
            run.step("index", body)

    with pytest.raises(ac.Interrupted):
        loop(url, 3)
    text, other = io.StringIO(), fresh()
    ac.export_run("loop", text, store=url)
    ac.import_run(io.StringIO(text.getvalue()), store=other)
    loop(other, 9)
    assert met == [0, 1, 2, 3, 4, 5]


def test_that_its_end_is_wanted_comes_along(url: str) -> None:
    with crash("plan"):
        life(url)
    ac.cancel("r", reason="enough", store=url)
    text, other = io.StringIO(), fresh()
    ac.export_run("r", text, store=url)
    ac.import_run(io.StringIO(text.getvalue()), store=other)
    with pytest.raises(ac.RunCancelled, match="enough"):
        life(other)


def test_bytes_that_are_no_text_come_back() -> None:
    entry = {"k": "done", "id": "a", "at": 1, "slot": "s", "inputs": {"digest": "d"}, "payload": {"size": 2}, "new": 1}
    line = exported.read_line(exported.written(exported.entry_line(json.dumps(entry).encode(), b"\xff\x00")))
    assert isinstance(line, exported.EntryLine) and line.entry["new"] == 1, "a field of a newer version stays"
    assert exported.entry_of(line)[1] == b"\xff\x00"


def test_no_line_can_be_missing_or_stand_there_twice(file: Path) -> None:
    lines, other = file.read_text("utf-8").splitlines(keepends=True), fresh()
    assert len(lines) > 8
    for i in range(len(lines)):
        for changed in ([*lines[:i], *lines[i + 1 :]], [*lines[:i], lines[i], *lines[i:]]):
            with pytest.raises((ac.CheckpointCorrupt, ac.CheckpointsLost)):
                ac.import_run(io.StringIO("".join(changed)), store=other)
    assert ask(other, "DBSIZE") == 0


def entry(n: int, **fields: Any) -> Callable[[list[Any]], None]:
    return lambda lines: lines[n]["entry"].update(fields)


@pytest.mark.parametrize(
    ("damage", "error", "told"),
    [
        (lambda lines: lines[0].update(version=9), ac.SchemaTooNew, "line 1: the file is of version 9"),
        (lambda lines: lines[0].update(agentcheckpoint="x"), ac.CheckpointCorrupt, "line 1: it is not the first line"),
        (lambda lines: lines[0].update(run="other"), ac.CheckpointCorrupt, "it belongs to run 'r'"),
        (lambda lines: lines[0]["meta"].update(state="asleep"), ac.CheckpointCorrupt, "its state is none"),
        (lambda lines: lines[0]["meta"].update(schema="7"), ac.SchemaTooNew, "of schema 7"),
        (entry(3, slot=3), ac.CheckpointCorrupt, "line 4: done.slot: Input should be a valid string"),
        (entry(3, slot="a//b"), ac.CheckpointCorrupt, r"its log\[2\].*its slot is none"),
        (entry(3, v=2), ac.SchemaTooNew, "line 4: it is of schema 2"),
        (entry(3, k="guess"), ac.CheckpointCorrupt, "line 4: .*guess"),
        (lambda lines: lines[3].update(text="[]"), ac.CheckpointCorrupt, "line 4: its result has 2 bytes, and 7 are"),
        (lambda lines: lines[3].pop("text"), ac.CheckpointCorrupt, "line 4: it has no result"),
        (lambda lines: lines[2].update(text="x"), ac.CheckpointCorrupt, "line 3: it has a result, and names none"),
        (lambda lines: lines[3].update(base64="?"), ac.CheckpointCorrupt, "line 4: its result is no base64"),
        (lambda lines: lines.insert(4, {"what": 1}), ac.CheckpointCorrupt, "line 5: it is none that a run has"),
        (lambda lines: lines.insert(4, {"waste": {"id": 1}}), ac.CheckpointCorrupt, "line 5: id: "),
        (lambda lines: lines.pop(), ac.CheckpointCorrupt, "its last line is missing"),
    ],
)
def test_a_damaged_file_is_refused_by_its_line_before_anything_is_written(
    file: Path, damage: Callable[[list[Any]], Any], error: type[Exception], told: str
) -> None:
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    damage(lines)
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    other = fresh()
    with pytest.raises(error, match=told):
        ac.import_run(file, store=other)
    assert ask(other, "DBSIZE") == 0


def test_what_is_no_json_or_no_text_is_named_by_its_line(file: Path) -> None:
    data = file.read_bytes()
    for bad in (data.replace("ä".encode(), b"\xff"), data.replace(b'"text":', b'"text"', 1)):
        file.write_bytes(bad)
        with pytest.raises(ac.CheckpointCorrupt, match="line 4: it is not JSON"):
            ac.import_run(file, store=fresh())


def test_a_name_that_is_taken_stays_as_it_is(url: str, file: Path) -> None:
    before = ac.get("r", store=url)
    with pytest.raises(ac.RunExists):
        ac.import_run(file, store=url)
    assert ac.get("r", store=url) == before
    ac.delete("r", store=url)
    with pytest.raises(ac.RunDeleted):
        ac.import_run(file, store=url)


def test_an_import_that_dies_half_way_leaves_nothing_that_can_be_opened(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MOST", 2)
    other, written = fresh(), whole.write_piece
    left = 3

    def dying(*args: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return written(*args)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(exporting, "write_piece", dying)
        ac.import_run(file, store=other)
    keys = ask(other, "KEYS", "*")
    assert keys and all(0 < ask(other, "PTTL", key.decode()) <= whole.LEFT_MS for key in keys)
    with pytest.raises(ac.RunNotFound):
        ac.get("r", store=other)
    ac.import_run(file, store=other)
    assert life(other) == "PLÄNFETCH" and not calls


def test_a_lost_reply_to_the_last_packet_is_settled_by_a_look(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish, other = whole._publish, fresh()

    def losing(*args: Any) -> Generator[Any, Any, Any]:
        yield from publish(*args)
        raise Lost("the connection broke")

    monkeypatch.setattr(whole, "_publish", losing)
    assert ac.import_run(file, store=other) == "r"
    assert life(other) == "PLÄNFETCH" and ask(other, "LLEN", tokens(other)) == 2


def test_results_go_in_pages(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PIECE", 50_000)
    with ac.run("big", store=url) as run:
        for n in range(20):
            run.step("part", lambda n: secrets.token_hex(30_000), n)
    text, other, pages = io.StringIO(), fresh(), list[int]()
    reading = exporting.read_results

    def counted(address: Any, token: str, page: list[str]) -> Any:
        pages.append(len(page))
        return reading(address, token, page)

    monkeypatch.setattr(exporting, "read_results", counted)
    ac.export_run("big", text, store=url)
    assert len(pages) >= 10 and sum(pages) == 20
    ac.import_run(io.StringIO(text.getvalue()), store=other)
    assert ac.get("big", store=other) == ac.get("big", store=url)


def test_a_path_is_written_whole_or_not_at_all(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life(url)
    (tmp_path / "r").write_text("before")
    monkeypatch.setattr(exported, "entry_line", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ac.export_run("r", tmp_path / "r", store=url)
    assert [path.name for path in tmp_path.iterdir()] == ["r"] and (tmp_path / "r").read_text() == "before"

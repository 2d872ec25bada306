"""The benchmarks run, and say of each row what they should. No time is asserted: only what is the same each time."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent
DRIVERS = ROOT / "benchmarks" / "peers" / "drivers"
PAGE = ROOT / "docs" / "performance.md"
PEERS: dict[str, tuple[str, ...]] = {
    "ours": ("agentcheckpoint", "agentcheckpoint"),
    "bare_redis": ("redis-py, bare", "redis"),
    "dbos_sqlite": ("DBOS, SQLite", "dbos"),
    "langgraph_graph": ("LangGraph, SQLite", "langgraph"),
    "langgraph_tasks": ("LangGraph `@task`, SQLite", "langgraph"),
    "redflow_worker": ("redflow", "redflow"),
    "absurd_postgres": ("Absurd, Postgres", "absurd_sdk", "psycopg"),
}
"""By driver: how it is named, and what it may import: the peer, and with what that connects."""
NAMES = [name for name, *_ in PEERS.values()]


def benchmarks(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the rows that were printed."""
    done = ran("benchmarks", "--quick", "-o", "json", *arguments)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def ran(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the scripts, which has nothing to complain about."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert not done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("name", "value", "goal"),
    [
        ("commits.round_trips", 1, "exactly 1"),
        ("model_calls.live_round_trips", 2, "exactly 2"),
        ("model_calls.replayed_requests", 0, "exactly 0"),
    ],
)
def test_what_is_counted_is_exact(name: str, value: float, goal: str) -> None:
    code, (row,) = benchmarks("--only", name)
    assert code == 0
    assert (row["value"], row["goal"], row["ok"], row["spread"]) == (value, goal, True, [value, value])
    assert row["name"]


def test_a_conversation_takes_about_the_bytes_that_are_said_and_twice_as_long_a_one_twice_as_many() -> None:
    code, rows = benchmarks("--only", "footprint.storage")
    assert code == 0 and [row["goal"] for row in rows] == ["at most 1.2", "at most 2.05"]


def test_a_row_that_is_timed_has_a_median_within_its_spread_and_says_whether_it_is_good() -> None:
    code, (row,) = benchmarks("--only", "commits.store_against_a_pipeline")
    assert 0 < row["spread"][0] <= row["value"] <= row["spread"][1]
    assert row["goal"] == "at most 0.7"
    assert row["ok"] == (row["value"] <= 0.7) == (code == 0)


# -- how cost grows ---------------------------------------------------------------------------------------------------


def test_how_cost_grows_is_drawn_and_the_page_shows_each_picture(tmp_path: Path) -> None:
    written = PAGE.read_text("utf-8")
    ran("benchmarks.growth", "--into", str(tmp_path), "--rounds", "1", "--largest", "1")
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == sorted(re.findall(r"!\[[^]]+\]\(pictures/(growth-\w+\.svg)\)", written))
    for name in drawn:
        for picture in (tmp_path / name, PAGE.parent / "pictures" / name):
            tags = [element.tag.rpartition("}")[2] for element in ElementTree.parse(picture).iter()]
            assert tags.count("polyline") == 2, picture
    assert PAGE.read_text("utf-8") == written


# -- side by side -----------------------------------------------------------------------------------------------------


def test_a_driver_imports_its_peer_alone_and_no_peer_comes_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [project["dependencies"], *project["optional-dependencies"].values()]
    installed = {re.split(r"[^\w-]", line)[0].replace("-", "_") for lines in needed for line in lines}
    assert sorted(path.stem for path in DRIVERS.glob("*.py")) == sorted([*PEERS, "driver"])
    for name, (_, *peer) in PEERS.items():
        tree = ast.parse((DRIVERS / f"{name}.py").read_text("utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        foreign = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
        assert foreign == {"driver", *peer}
        assert peer[0] in ("agentcheckpoint", "redis") or peer[0] not in installed


def test_what_is_not_installed_is_unknown_and_why_and_the_others_are_measured(tmp_path: Path) -> None:
    venv.create(tmp_path / "empty")
    few = ("--rounds", "1", "--steps", "2", "--recorded", "3", "-o", "json")
    done = ran("benchmarks.peers", "run", str(tmp_path / "empty"), *few)
    ours, *others = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [row["name"] for row in (ours, *others)] == NAMES
    assert len(ours["steps"]) == len(ours["resumes"]) == 1
    for row in others:
        assert row.keys() == {"name", "unknown"}
        assert re.match(r"ModuleNotFoundError: No module named '\w+'$|PostgreSQL", row["unknown"])


@pytest.mark.parametrize(
    ("question", "steps_done", "refused"),
    [("commit", 3, False), ("commit", 2, True), ("fill", 4, True), ("resume", 0, False), ("resume", 1, True)],
)
def test_a_driver_that_leaves_a_step_out_or_does_one_again_is_refused(
    question: str, steps_done: int, refused: bool
) -> None:
    code = f"""
from driver import result, serve
class Peer:
    def {question}(self, steps):
        return [result() for _ in range({steps_done})] and 0.5
serve(Peer())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=DRIVERS, input=f"{question} 3\n", capture_output=True, text=True, timeout=60
    )
    assert (done.returncode != 0) == refused == (f"{question}: {steps_done} calls" in done.stderr)
    assert len(done.stdout.splitlines()) == (1 if refused else 2)


def test_the_page_has_a_row_for_each_peer_and_says_what_it_does() -> None:
    section = PAGE.read_text("utf-8").split("<!-- peers: begin -->")[1].split("<!-- peers: end -->")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    assert [name for name, *_ in rows] == re.findall(r"^- \*\*(.+)\.\*\* ", section, re.MULTILINE) == NAMES
    for _, step, *others in rows:
        figures = all(re.match(r"[\d,.]+( to [\d,.]+| x)?$", cell) for cell in (step, *others))
        assert figures if step != "unknown" else others, "what is unknown says why"

"""``agentcheckpoint cost`` as a process: what it prints where, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from faults.servers import Server

import agentcheckpoint as ac
from agentcheckpoint.core.price import Price
from agentcheckpoint.store.server_binary import find_binary

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

PRICES = {"small": Price(input="1", output="2")}


def paid(name: str) -> ac.Step:
    return ac.Step(name, model="small", prices=PRICES, usage=lambda _: ac.Usage(input_tokens=1_000_000))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with two runs of one step each, $1 a step, and one that nobody can read."""
    room = tmp_path_factory.mktemp("cli-cost")
    with Server(str(find_binary()), room) as server, server.client() as admin:
        url = f"unix://{room}/socket"
        for name in ("one", "two"):
            with ac.run(name, store=url, tags=("team-a",)) as run:
                run.llm(paid("think"), str, 1)
        admin.zadd("ac:{runs-default}:opened", {"gone": 1})
        yield url


def cost(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "agentcheckpoint", "cost", *words],
        env={**os.environ, "AGENTCHECKPOINT_URL": url, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=250,
    )


def notes(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """What is on stderr, less what is said of the server."""
    return [line for line in ran.stderr.splitlines() if line.startswith("note: not counted")]


def test_the_costs_are_printed_on_stdout_and_the_notes_on_stderr(url: str) -> None:
    ran = cost(url)
    assert ran.returncode == 0, ran.stderr
    titles, row, total = (line.split() for line in ran.stdout.splitlines())
    assert titles[:4] == ["model", "runs", "attempts", "paid"]
    assert row[:4] == ["small", "2", "2", "$2.00"] and total[:4] == ["total", "2", "2", "$2.00"]
    (note,) = notes(ran)
    assert "'gone'" in note


def test_json_is_one_object_and_jsonl_and_csv_are_lines(url: str) -> None:
    whole = json.loads(cost(url, "--by", "run", "-o", "json").stdout)
    assert whole["by"] == "run" and whole["total"]["paid_usd"] == "2" and "gone" in whole["notes"][0]
    lines = [json.loads(line) for line in cost(url, "--by", "run", "-o", "jsonl").stdout.splitlines()]
    assert lines == whole["rows"]
    read = list(csv.DictReader(io.StringIO(cost(url, "--by", "tag", "-o", "csv").stdout, newline="")))
    assert [(row["tag"], row["paid_usd"]) for row in read] == [("team-a", "2")]


def test_one_run_is_shown_alone(url: str) -> None:
    ran = cost(url, "one", "--by", "step")
    assert ran.returncode == 0 and notes(ran) == []
    assert ran.stdout.splitlines()[1].split()[:4] == ["think", "1", "1", "$1.00"]


def test_every_attempt_is_a_line(url: str) -> None:
    ran = cost(url, "--attempts", "-o", "csv")
    read = list(csv.DictReader(io.StringIO(ran.stdout, newline="")))
    assert [(row["run"], row["slot"], row["cost_usd"]) for row in read] == [
        ("one", "think", "1"),
        ("two", "think", "1"),
    ]
    assert len(notes(ran)) == 1
    lines = cost(url, "two", "--attempts", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["run"] for line in lines] == ["two"]


@pytest.mark.parametrize(("words", "attempts"), [(["--since", "1h"], 2), (["--until", "2d"], 0), (["--tag", "x"], 0)])
def test_what_counts_can_be_chosen(url: str, words: list[str], attempts: int) -> None:
    assert json.loads(cost(url, *words, "-o", "json").stdout)["total"]["attempts"] == attempts


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nobody"], 3, "nobody"),
        (["--since", "soon"], 2, "soon"),
        (["--by", "colour"], 2, "colour"),
        (["--attempts"], 2, "--attempts"),
        (["--namespace", "NO"], 2, "NO"),
        (["--url", "redis://:hush-hush@localhost:1/0"], 5, "localhost:1"),
    ],
)
def test_what_goes_wrong_is_said_on_stderr_with_its_exit_code(url: str, words: list[str], code: int, says: str) -> None:
    ran = cost(url, *words)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert says in ran.stderr and "Traceback" not in ran.stderr and "hush-hush" not in ran.stderr

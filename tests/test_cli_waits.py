"""``agentcheckpoint waiting`` and ``answer`` as commands: what they print where, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from faults.servers import Server

import agentcheckpoint as ac
from agentcheckpoint.store.server_binary import find_binary

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

PROMPT = "Refund 120 €?\n\x1b[2J Say yes."


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    room = tmp_path_factory.mktemp("cli-waits")
    with Server(str(find_binary()), room):
        url = f"unix://{room}/socket"
        with pytest.raises(ac.Suspended), ac.run("r 1", store=url) as run:
            run.wait_for("sure", ac.Approval, prompt=PROMPT)
        with pytest.raises(ac.Suspended), ac.run("r2", store=url) as run:
            run.wait_for("name", str)
        yield url


def command(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "agentcheckpoint", *words],
        env={**os.environ, "AGENTCHECKPOINT_URL": url, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_waits_is_listed_and_answered(url: str) -> None:
    listed = command(url, "waiting")
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert lines[0].startswith("r 1  sure  since 20") and "\x1b" not in listed.stdout
    assert lines[1:4] == ["  Refund 120 €?", "  \\x1b[2J Say yes.", "  answer: {ok: boolean, note?: string}"]
    assert lines[-1] == "  answer: string"

    wrong = command(url, "answer", "r 1", "sure", '{"ok": "perhaps"}')
    assert wrong.returncode == 2 and "does not fit" in wrong.stderr and wrong.stdout == ""
    right = command(url, "answer", "r 1", "sure", '{"ok": true}', "--by", "ada")
    assert (right.returncode, right.stdout) == (0, "answered: r 1 sure\n")
    late = command(url, "answer", "r 1", "sure", '{"ok": false}')
    assert late.returncode == 1 and "by ada" in late.stderr
    with ac.run("r 1", store=url) as run:
        assert run.wait_for("sure", ac.Approval, prompt=PROMPT) == ac.Approval(True)


def test_json_for_programs_text_for_answers_and_what_is_not_there(url: str) -> None:
    (question,) = [q for q in json.loads(command(url, "waiting", "-o", "json").stdout)["waiting"] if q["run"] == "r2"]
    assert question["name"] == "name" and question["form"] == {"type": "string"} and question["until"] is None
    said = json.loads(command(url, "answer", "r2", "name", "Ada Lovelace", "-o", "json").stdout)
    assert (said["run"], said["name"], said["by"]) == ("r2", "name", None)
    with ac.run("r2", store=url) as run:
        assert run.wait_for("name", str) == "Ada Lovelace"
    for words in (("r2", "other"), ("nobody", "name")):
        assert command(url, "answer", *words, "x").returncode == 3

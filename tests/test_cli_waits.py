"""``agentcheckpoint waiting`` and ``answer`` as commands: what they print where, and their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from faults.servers import Server

import agentcheckpoint as ac
from agentcheckpoint.cli.main import main
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


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the command in this process."""
    monkeypatch.setenv("AGENTCHECKPOINT_URL", url)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command sets its own

    def run(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["agentcheckpoint", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


def test_what_waits_is_listed_and_answered(url: str, command: Callable[..., Ran]) -> None:
    listed = command("waiting")
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert lines[0].startswith("r 1  sure  since 20") and "\x1b" not in listed.stdout
    assert lines[1:4] == ["  Refund 120 €?", "  \\x1b[2J Say yes.", "  answer: {ok: boolean, note?: string}"]
    assert lines[-1] == "  answer: string"

    wrong = command("answer", "r 1", "sure", '{"ok": "perhaps"}')
    assert wrong.returncode == 2 and "does not fit" in wrong.stderr and wrong.stdout == ""
    right = command("answer", "r 1", "sure", '{"ok": true}', "--by", "ada")
    assert (right.returncode, right.stdout) == (0, "answered: r 1 sure\n")
    late = command("answer", "r 1", "sure", '{"ok": false}')
    assert late.returncode == 1 and "by ada" in late.stderr
    with ac.run("r 1", store=url) as run:
        assert run.wait_for("sure", ac.Approval, prompt=PROMPT) == ac.Approval(True)


def test_json_for_programs_text_for_answers_and_what_is_not_there(url: str, command: Callable[..., Ran]) -> None:
    (question,) = [q for q in json.loads(command("waiting", "-o", "json").stdout)["waiting"] if q["run"] == "r2"]
    assert question["name"] == "name" and question["form"] == {"type": "string"} and question["until"] is None
    said = json.loads(command("answer", "r2", "name", "Ada Lovelace", "-o", "json").stdout)
    assert (said["run"], said["name"], said["by"]) == ("r2", "name", None)
    with ac.run("r2", store=url) as run:
        assert run.wait_for("name", str) == "Ada Lovelace"
    for words in (("r2", "other"), ("nobody", "name")):
        assert command("answer", *words, "x").returncode == 3


def test_they_are_commands_of_the_installed_program() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "agentcheckpoint", "--help"], capture_output=True, text=True, timeout=60
    ).stdout
    assert "waiting" in told and "answer" in told

"""The commands as processes, on a real server: a run that is followed live, signals, pipes, terminals, agents."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults.servers import Server
from terminal_pictures import PICTURE, draw, likeness

import agentcheckpoint as ac
from agentcheckpoint.cli.completing import PATIENCE
from agentcheckpoint.show.layout import columns_of
from agentcheckpoint.store.server_binary import find_binary

pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")

AGENTS = """
import agentcheckpoint as ac

@ac.step
def shout(name):
    return name.upper()

@ac.agent
def greet(name: str) -> str:
    print("hello from the agent")
    if name == "nobody":
        raise ValueError("nobody is there")
    return shout(name)"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    room = tmp_path_factory.mktemp("cli")
    with Server(str(find_binary()), room):
        yield room


@pytest.fixture(scope="module")
def url(room: Path) -> str:
    url = f"unix://{room}/socket"
    with ac.run("done", store=url) as run:
        for n in range(30):
            run.step(ac.Step("fetch", key=str(n)), str, n)
    with pytest.raises(ac.Suspended), ac.run("waits", store=url) as run:
        run.wait_for("sure", ac.Approval)
    return url


def started(url: str, *words: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    environment = {name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"AGENTCHECKPOINT_URL": url, **(env or {})}
    command = [sys.executable, "-W", "ignore", "-m", "agentcheckpoint", *words]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment} | options
    return subprocess.Popen(command, **settings)


def ran(url: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    with started(url, *words, **options) as process:
        out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


# -- following a run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ends", "code"), [("completed", 0), ("cancelled", 1), ("waiting", 4)])
def test_a_live_run_is_followed_to_its_end_and_the_exit_code_is_its_outcome(url: str, ends: str, code: int) -> None:
    name, told = f"live-{ends}", ""
    with suppress(ac.Suspended, ac.Interrupted), ac.run(name, store=url) as run:
        run.step("one", str, 1)
        tail = started(url, "tail", name, "--poll", "0.05", "-o", "jsonl")
        assert tail.stdout is not None
        while '"one"' not in told:  # what is recorded is told while the run is open
            line = tail.stdout.readline()
            assert line, "it ended before the run"
            told += line
        run.step("two", str, 2)
        if ends == "cancelled":
            ac.cancel(name, store=url)
            run.step("three", str, 3)
        if ends == "waiting":
            run.wait_for("sure", ac.Approval)
    rest, err = tail.communicate(timeout=120)
    lines = [json.loads(line) for line in (told + rest).splitlines()]
    assert [line["slot"] for line in lines if line["k"] == "done"][:2] == ["one", "two"]
    assert (tail.returncode, lines[-1]["state"], err) == (code, ends, "")


def test_nobody_at_work_is_said_once_and_ctrl_c_ends_the_following_without_a_traceback(url: str) -> None:
    with pytest.raises(ValueError, match="lost"), ac.run("left", store=url):
        raise ValueError("lost")
    tail = started(url, "tail", "left", "--poll", "0.05")
    assert tail.stdout is not None and tail.stderr is not None
    assert tail.stderr.readline() == "note: nobody works on it now (retryable)\n"
    tail.send_signal(signal.SIGINT)
    out, err = tail.communicate(timeout=60)
    assert tail.returncode in (1, 130) and "Traceback" not in err and "note" not in err
    assert out.splitlines()[-1].endswith("retryable: ValueError: lost")


# -- an agent ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def submitted(room: Path, url: str) -> Path:
    """A folder with the module of two agents; runs of one of them are submitted."""
    folder = room / "agents"
    folder.mkdir()
    (folder / "greeting.py").write_text(AGENTS)
    code = f"from greeting import greet; greet = greet.using(store={url!r})\n"
    code += "greet.submit('greets', 'ada'); greet.submit('fails', 'nobody')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, check=True, timeout=100)
    return folder


def test_an_agents_run_is_resumed_here_and_the_exit_code_says_how_it_went(url: str, submitted: Path) -> None:
    done = ran(url, "resume", "greeting:greet", "greets", "-o", "json", cwd=submitted)
    assert done.returncode == 0, done.stderr
    assert "hello from the agent" in done.stderr
    assert (json.loads(done.stdout)["state"], json.loads(done.stdout)["error"]) == ("completed", None)
    failed = ran(url, "resume", "greeting:greet", "fails", cwd=submitted)
    assert failed.returncode == 1 and failed.stdout.startswith("fails: retryable · spent")
    assert "ValueError: nobody is there" in failed.stderr and "Traceback" not in failed.stderr


# -- pipes and terminals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("show", "done"), ("steps", "done", "-o", "jsonl")], ids=" ".join)
def test_a_reader_that_goes_away_is_no_traceback(url: str, words: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)  # every write fails
    process = started(url, *words, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert err == "" and process.returncode == 1


def on_a_terminal(url: str, *words: str, columns: int, env: dict[str, str]) -> str:
    """What a command shows on a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    own = {"TERM": "xterm-256color", "COLUMNS": "", **env}
    process = started(url, *words, stdin=slave, stdout=slave, stderr=slave, env=own)
    os.close(slave)
    shown = b""
    with suppress(OSError):  # the other end is closed
        while data := os.read(master, 65536):
            shown += data
    assert process.wait(60) == 0
    os.close(master)
    return shown.decode()


@pytest.mark.parametrize("columns", [80, 200])
def test_colours_are_for_terminals_and_the_text_has_their_width(url: str, columns: int) -> None:
    coloured = on_a_terminal(url, "show", "done", columns=columns, env={})
    assert "\x1b[32m█" in coloured
    text = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    widest = max(map(columns_of, text.splitlines()))
    assert columns - 15 < widest <= columns
    piped = ran(url, "show", "done", env={"COLUMNS": str(columns)}).stdout
    assert "\x1b" not in piped
    assert [line.rstrip() for line in text.splitlines()[3:]] == [line.rstrip() for line in piped.splitlines()[3:]]


def test_no_color_means_no_colour(url: str) -> None:
    plain = on_a_terminal(url, "show", "done", columns=80, env={"NO_COLOR": "1"})
    assert "\x1b[3" not in plain and "█" in plain


def test_a_terminal_that_cannot_show_a_bar_is_no_reason_to_fail(url: str) -> None:
    shown = ran(url, "show", "done", env={"PYTHONIOENCODING": "ascii"})
    assert shown.returncode == 0 and "\\u2588" in shown.stdout, shown.stderr


def test_the_shell_completes_commands(url: str) -> None:
    asked = {"_AGENTCHECKPOINT_COMPLETE": "complete_bash", "COMP_WORDS": "agentcheckpoint re", "COMP_CWORD": "1"}
    assert ran(url, env=asked).stdout.split() == ["resume", "retry", "rewind"]
    assert "complete -o" in ran(url, env={"_AGENTCHECKPOINT_COMPLETE": "source_bash"}).stdout


def completed(url: str, line: str, env: dict[str, str]) -> tuple[list[str], float]:
    """What the shell offers for the last word of a line, and how many seconds that took."""
    words = {"_AGENTCHECKPOINT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    environment = os.environ | {"AGENTCHECKPOINT_URL": url} | env | words
    began = time.monotonic()
    command = [sys.executable, "-m", "agentcheckpoint"]  # with warnings, such as that this server weakens the promise
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert told.stderr == ""
    return told.stdout.split(), time.monotonic() - began


def test_the_shell_completes_the_names_of_runs(url: str) -> None:
    with ac.run("done of another word", store=url), ac.run("over", store=url, namespace="other"):
        pass
    for verb in ("show", "steps", "tail", "retry", "cancel", "fork", "cost", "export"):
        assert completed(url, f"agentcheckpoint {verb} do", {})[0] == ["done"], verb
    assert completed(url, "agentcheckpoint show --namespace other ov", {})[0] == ["over"]
    assert completed("redis://nobody:1", f"agentcheckpoint show --store {url} wa", {})[0] == ["waits"]
    assert completed(url, "agentcheckpoint show nobody", {})[0] == []
    assert completed(url, "agentcheckpoint re", {})[0] == ["resume", "retry", "rewind"]
    assert completed(url, "agentcheckpoint server st", {})[0] == ["status", "stop"]


def test_completion_says_nothing_of_a_server_that_weakens_the_promise(tmp_path: Path) -> None:
    with Server(str(find_binary()), tmp_path, {"appendonly": "no"}) as weak:
        with ac.run("done", store=weak.url):
            pass
        assert completed(weak.url, "agentcheckpoint show do", {})[0] == ["done"]


def test_completion_is_silent_and_soon_over_where_no_server_answers(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import agentcheckpoint.cli.main, agentcheckpoint.store.connect"]
    began = time.monotonic()
    subprocess.run(command, check=True, timeout=60)
    start = time.monotonic() - began
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes connections, and never says a word
        for away in (f"unix://{tmp_path}/nobody", f"redis://127.0.0.1:{mute.getsockname()[1]}", "nonsense://"):
            names, seconds = completed(away, "agentcheckpoint show do", {})
            assert names == [] and seconds < 3 * start + PATIENCE + 1
    home = tmp_path / "home"
    assert completed("", "agentcheckpoint show do", {"AGENTCHECKPOINT_HOME": str(home)})[0] == []
    assert not home.exists() or not any(home.iterdir()), "no server was started for it"


def test_both_names_are_the_same_program() -> None:
    scripts = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["ackp"] == scripts["agentcheckpoint"] == "agentcheckpoint.cli.main:main"
    code = "import sys; sys.argv = ['/bin/ackp', 'runs', '-h']; from agentcheckpoint.cli.main import main; main()"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.stdout.startswith("Usage: ackp runs")


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_the_picture_is_that_of_a_real_run_and_loads_nothing() -> None:
    shown = PICTURE.read_text("utf-8")
    assert likeness(draw()) == likeness(shown), "run: python tests/terminal_pictures.py"
    assert "url(http" not in shown and "@import" not in shown and "<script" not in shown

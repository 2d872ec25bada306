"""Every verb as a process: text and JSON, exit codes, a reader that goes away, no terminal, and two widths of one.

The processes are forked from this one, where the program is loaded already: its start is tested in test_cli_processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import secrets
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_page import verbs
from faults.servers import Server

import agentcheckpoint as ac
from agentcheckpoint.cli.main import main
from agentcheckpoint.show.layout import columns_of
from agentcheckpoint.store import connect
from agentcheckpoint.store.embedded import ensure_server, server_status, state_directory, stop_server
from agentcheckpoint.store.server_binary import find_binary

pytestmark = [
    pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # a fork where threads are
]
AGENT = f"{Path(__file__).stem}:greet"
LONG = "a name that is long enough to be cut where there are eighty columns"


@ac.step
def shout(name: str) -> str:
    return name.upper()


@ac.agent
def greet(name: str) -> str:
    return shout(name)


@dataclass(frozen=True)
class Verb:
    """How a command is called on what ``room`` has, and what comes of it.

    Attributes:
        words: its arguments.
        code: its exit code.
        formats: what ``-o`` takes beside text.
        missing: the arguments with a run that there is not.
    """

    words: tuple[str, ...]
    code: int = 0
    formats: tuple[str, ...] = ("json", "jsonl")
    missing: tuple[str, ...] | None = None


VERBS = {
    "runs": Verb(()),
    "show": Verb(("done",), missing=("nobody",)),
    "steps": Verb(("done",), missing=("nobody",)),
    "cost": Verb((), missing=("nobody",)),
    "tail": Verb(("waits", "--poll", "0.05"), 4, missing=("nobody",)),
    "resume": Verb((AGENT, "asked"), missing=(AGENT, "nobody")),
    "retry": Verb(("failed",), missing=("nobody",)),
    "fork": Verb(("done", "--after", LONG, "--as", "other"), missing=("nobody", "--after", LONG, "--as", "other")),
    "rewind": Verb(("done", "--after", LONG), missing=("nobody", "--after", LONG)),
    "cancel": Verb(("waits",), missing=("nobody",)),
    "answer": Verb(("waits", "sure", '{"ok": true}'), missing=("nobody", "sure", "true")),
    "waiting": Verb(()),
    "export": Verb(("done",), formats=(), missing=("nobody",)),
    "import": Verb(("FILE", "--as", "brought"), missing=("no-such-file",)),
    "prune": Verb(("--completed", "0s")),
    "doctor": Verb(()),
    "worker": Verb((AGENT, "--until-idle"), formats=("jsonl",)),
    "demo": Verb(("--docs", "DOCS", "--kills", "0", "--latency", "0")),
    "server status": Verb(()),
    "server stop": Verb(()),
}
OWN = ("server status", "server stop")
"""Commands for the embedded server alone."""
UNWRAPPED = ("export", "demo")
"""The lines of a file, and what a model said: a terminal wraps them where it ends."""
SENTENCE = ("fork", "rewind")
"""Their first line is one, with the names that were asked for: a terminal wraps that too."""
EACH = pytest.mark.parametrize("name", VERBS)


@dataclass
class Room:
    """A namespace of its own with runs of several kinds.

    Attributes:
        url: its server.
        namespace: where its runs are.
        file: an exported run.
    """

    url: str
    namespace: str
    file: str

    def line(self, name: str, words: tuple[str, ...]) -> list[str]:
        if name in OWN:
            return [*name.split(), *words]
        placed = [] if name == "demo" else ["--namespace", self.namespace]
        files = {"FILE": self.file, "DOCS": str(Path(self.file).parent / "docs")}
        return [name, *(files.get(word, word) for word in words), *placed, "--store", self.url]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Server(str(find_binary()), tmp_path_factory.mktemp("verbs")) as server:
        yield server.url


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the embedded server has its data, once there is one: a path that no line of 80 columns has room for."""
    data = tmp_path_factory.mktemp("a-directory-with-a-name-that-is-longer-than-the-room-there-is-in-a-line")
    monkeypatch.delenv("AGENTCHECKPOINT_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    yield state_directory()
    stop_server()


@pytest.fixture
def room(url: str, home: Path, name: str, tmp_path: Path) -> Room:
    """What the command ``name`` is called on; the embedded server runs for those that are about it."""
    if name in OWN:
        ensure_server()
    namespace = secrets.token_hex(4)
    here: dict[str, Any] = {"store": url, "namespace": namespace}
    with ac.run("done", **here) as run:
        for step in ("plan", LONG):
            run.step(ac.Step(step, cost="0.01"), str, 1)
    with pytest.raises(ac.Suspended), ac.run("waits", **here) as run:
        run.wait_for("sure", ac.Approval, prompt="Send it?")
    with pytest.raises(ValueError, match="no"), ac.run("failed", **here):
        raise ValueError("no")
    greet.using(**here).submit("asked", "you")
    ac.export_run("done", to := tmp_path / "done.jsonl", **here)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.md").write_text("# A harbour\n\nShips wait there for the tide.\n")
    return Room(url, namespace, str(to))


@dataclass(frozen=True)
class Told:
    """What a process wrote, and how it ended."""

    out: str
    err: str
    code: int


def forked(words: list[str], stdin: int, out: int, err: int) -> int:
    """A process that runs the command on these files."""
    child = os.fork()
    if not child:
        code: object = 1
        try:
            for number, file in enumerate((stdin, out, err)):
                os.dup2(file, number)
            os.environ.pop("COLUMNS", None)
            os.environ["TERM"] = "xterm-256color"
            sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
            sys.argv = ["agentcheckpoint", *words]
            main()
        except SystemExit as ended:
            code = ended.code
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code if isinstance(code, int) else int(code is not None))
    return child


def piped(words: list[str], tmp_path: Path, out: int | None = None) -> Told:
    """What comes of a command where no terminal is."""
    with (tmp_path / "out").open("w+") as kept, (tmp_path / "err").open("w+") as said, open(os.devnull) as nothing:
        child = forked(words, nothing.fileno(), kept.fileno() if out is None else out, said.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        kept.seek(0), said.seek(0)
        return Told(kept.read(), said.read(), code)


def on_a_terminal(words: list[str], columns: int, err: Path) -> tuple[str, int]:
    """What a command shows on a terminal of so many columns, without colours; and its exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with err.open("w") as said:
        child = forked(words, slave, slave, said.fileno())
    os.close(slave)
    shown = b""
    with suppress(OSError):  # the other end is closed
        while data := os.read(master, 65536):
            shown += data
    os.close(master)
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.decode()), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def widest(name: str, text: str) -> int:
    """Columns of the widest line that a command lays out."""
    return max(map(columns_of, text.splitlines()[name in SENTENCE :]), default=0)


def test_no_verb_is_left_out() -> None:
    assert {*VERBS} == {" ".join(words) for words in verbs()}


@EACH
def test_text_goes_to_a_pipe_plain_and_within_eighty_columns(room: Room, tmp_path: Path, name: str) -> None:
    told = piped(room.line(name, VERBS[name].words), tmp_path)
    assert told.code == VERBS[name].code, told.err
    assert told.out + told.err and "Traceback" not in told.err
    assert "\x1b" not in told.out + told.err
    if name not in UNWRAPPED:
        assert widest(name, told.out) <= 80, told.out


@pytest.mark.parametrize(("name", "format"), [(name, form) for name, verb in VERBS.items() for form in verb.formats])
def test_data_is_json_on_stdout_and_nothing_else(room: Room, tmp_path: Path, name: str, format: str) -> None:
    told = piped([*room.line(name, VERBS[name].words), "-o", format], tmp_path)
    assert told.code == VERBS[name].code, told.err
    documents = [told.out] if format == "json" else told.out.splitlines()
    assert documents
    for document in documents:
        json.loads(document)


@EACH
def test_a_reader_that_goes_away_is_no_traceback(room: Room, tmp_path: Path, name: str) -> None:
    read, write = os.pipe()
    os.close(read)  # every write fails
    told = piped(room.line(name, VERBS[name].words), tmp_path, out=write)
    os.close(write)
    assert "Traceback" not in told.err and "BrokenPipe" not in told.err
    assert told.code in (VERBS[name].code, 1)


@pytest.mark.parametrize("columns", [80, 200])
@EACH
def test_on_a_terminal_the_text_has_its_width(room: Room, tmp_path: Path, name: str, columns: int) -> None:
    shown, code = on_a_terminal(room.line(name, VERBS[name].words), columns, tmp_path / "err")
    assert code == VERBS[name].code, shown + (tmp_path / "err").read_text()
    if name not in UNWRAPPED:
        assert widest(name, shown) <= columns, shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.missing])
def test_what_is_not_there_is_said_by_the_exit_code(room: Room, tmp_path: Path, name: str) -> None:
    told = piped(room.line(name, VERBS[name].missing or ()), tmp_path)
    assert told.code == (1 if name == "import" else 3), told.err
    assert told.out == "" and told.err and "Traceback" not in told.err


@pytest.mark.parametrize("name", [name for name in VERBS if name not in OWN])
def test_a_store_that_is_away_has_a_code_of_its_own(
    room: Room, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "PAUSES", (0.01, 0.02))  # test_cli.py waits as long as it really takes
    away = Room(f"unix://{tmp_path}/nobody-listens", room.namespace, room.file)
    told = piped(away.line(name, VERBS[name].words), tmp_path)
    assert (told.code, "Traceback" in told.err) == (5, False), told.err


@EACH
def test_a_wrong_option_has_a_code_of_its_own(tmp_path: Path, name: str) -> None:
    wrong = piped([*name.split(), "--no-such-option"], tmp_path)
    assert wrong.code == 2 and "no-such-option" in wrong.err and wrong.out == ""


def unbroken(text: str) -> str:
    return text.replace("\n", "")


def test_a_server_that_runs_is_shown_and_one_that_does_not_is_not_found_nor_started(home: Path, tmp_path: Path) -> None:
    text, data = piped(["server", "status"], tmp_path), piped(["server", "status", "-o", "json"], tmp_path)
    assert (text.code, data.code, text.err + data.err) == (3, 3, "")
    assert "not running" in text.out and str(home) in unbroken(text.out)
    assert json.loads(data.out) == {"running": False, "home": str(home)}
    assert not home.exists()

    server = ensure_server()
    text, data = piped(["server", "status"], tmp_path), piped(["server", "status", "-o", "json"], tmp_path)
    assert (text.code, data.code, text.err + data.err) == (0, 0, "")
    assert f"pid {server.pid}" in text.out and server.url in unbroken(text.out) and str(home) in unbroken(text.out)
    facts = {"socket": str(server.socket), "pid": server.pid, "url": server.url}
    assert json.loads(data.out) == {"running": True, "home": str(home), **facts}


def test_a_server_is_stopped_and_stopping_it_again_is_no_failure(home: Path, tmp_path: Path) -> None:
    ensure_server()
    stopped = piped(["server", "stop", "-o", "json"], tmp_path)
    assert (stopped.code, json.loads(stopped.out)) == (0, {"stopped": True, "home": str(home)})
    assert server_status() is None
    again = piped(["server", "stop"], tmp_path)
    assert again.code == 0 and "none was running" in again.out and str(home) in unbroken(again.out)
    assert json.loads(piped(["server", "stop", "-o", "json"], tmp_path).out)["stopped"] is False

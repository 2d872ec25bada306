"""The command line: what it imports, what it prints where, and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from agentcheckpoint import errors
from agentcheckpoint.cli import main as cli
from agentcheckpoint.cli.verbs import VERBS, Verb


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentcheckpoint", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["demo", "--help"], ["server", "--help"]])
def test_help_loads_neither_the_sdk_nor_redis_nor_a_model_of_ours(words: list[str]) -> None:
    code = f"""
import sys
from agentcheckpoint.cli.main import main
sys.argv[1:] = {words!r}
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"openai", "redis", "httpx2", "tenacity", "genai_prices", "rich", "agentcheckpoint.core.models"}}
if {words!r} == ["--help"]:  # typer itself loads pydantic to read other options
    heavy.add("pydantic")
print(sorted(heavy & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1:] == ["[]"], ran.stdout + ran.stderr


@pytest.mark.parametrize("name", VERBS)
def test_a_commands_line_of_help_is_that_of_the_command_itself(name: str) -> None:
    verb = Verb(name)
    real = verb.real()
    assert (verb.name, verb.hidden, verb.deprecated) == (real.name, real.hidden, real.deprecated)
    assert verb.help == real.help.partition("\n\n")[0].replace("\n", " ")
    for width in range(20, 140, 7):
        assert verb.get_short_help_str(width) == real.get_short_help_str(width)


def test_only_the_command_that_is_called_is_imported() -> None:
    code = """
import sys
from agentcheckpoint.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*(name for name in sys.modules if name.startswith("agentcheckpoint.cli.")))
"""
    modules: dict[str, set[str]] = {}
    for words in ("--help", "doctor --help", "server status --help"):
        ran = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True, text=True, check=True)
        modules[words] = set(ran.stdout.splitlines()[-1].replace("agentcheckpoint.cli.", "").split())
    assert modules == {
        "--help": {"main", "verbs"},
        "doctor --help": {"main", "verbs", "doctor", "output"},
        "server status --help": {"main", "verbs", "server", "output"},
    }


def test_help_names_the_commands() -> None:
    ran = command("--help")
    assert ran.returncode == 0 and ran.stderr == ""
    assert {"demo", "server"} <= set(ran.stdout.split())


def test_the_version_is_that_of_the_installed_distribution() -> None:
    ran = command("--version")
    assert ran.returncode == 0 and ran.stdout.startswith("agentcheckpoint 0.")


@pytest.mark.parametrize("words", [["nonsense"], ["demo", "--nonsense"], ["demo", "-o", "xml"], ["server", "nonsense"]])
def test_wrong_usage_is_exit_code_2_and_says_nothing_on_stdout(words: list[str]) -> None:
    ran = CliRunner().invoke(cli.app, words)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words[-1] in ran.stderr


def test_a_server_that_cannot_be_reached_is_exit_code_5_and_one_message_without_the_password() -> None:
    ran = command("demo", "--url", "redis://:hush-hush@localhost:1/0")
    assert (ran.returncode, ran.stdout) == (5, "")
    assert ran.stderr.startswith("agentcheckpoint: ") and "localhost:1" in ran.stderr
    assert "Traceback" not in ran.stderr and "hush-hush" not in ran.stderr


def test_a_url_that_is_none_is_exit_code_2() -> None:
    ran = command("demo", "--url", "nope://")
    assert (ran.returncode, ran.stdout) == (2, "") and ran.stderr.startswith("agentcheckpoint: 'nope://'")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AgentCheckpointError("x"), 1),
        (errors.StoreRefused("x"), 1),
        (errors.InvalidName("x"), 2),
        (errors.RunNotFound("x"), 3),
        (errors.StoreUnavailable("x"), 5),
    ],
)
def test_each_error_is_one_line_and_an_exit_code(
    error: errors.AgentCheckpointError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr("warnings.showwarning", None)  # main replaces it: put back afterwards
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert (end.value.code, said.out, said.err) == (code, "", "agentcheckpoint: x\n")


def test_exit_codes_are_of_errors_that_there_are() -> None:
    assert all(issubclass(getattr(errors, name), errors.AgentCheckpointError) for name in cli._CODES)


def test_a_warning_of_ours_is_a_note_without_a_place_in_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import warnings

    def warn(**_: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("it will not last", errors.DurabilityWarning, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    monkeypatch.setattr(cli, "app", warn)
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)
    cli.main()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("note: it will not last\n") and "DeprecationWarning: old" in said.err

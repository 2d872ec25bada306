"""docs/cli.md: every command's own help, as it is printed."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from agentcheckpoint.cli.main import app

WIDTH = 100


def verbs() -> list[tuple[str, ...]]:
    """The words of every command, as the help lists them."""
    found: list[tuple[str, ...]] = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        real = command.real()
        found += [(name, sub) for sub in real.commands] if hasattr(real, "commands") else [(name,)]
    return found


def help_of(words: tuple[str, ...]) -> str:
    ran = CliRunner().invoke(
        app, [*words, "--help"], prog_name="agentcheckpoint", terminal_width=WIDTH, max_content_width=WIDTH
    )
    assert ran.exit_code == 0, ran.output
    return ran.output


def commands(_room: Path) -> str:
    """A section for each command."""
    parts: list[str] = []
    for words in verbs():
        text = "\n".join(line.rstrip() for line in help_of(words).strip().splitlines())
        parts.append(f"### `{' '.join(words)}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)

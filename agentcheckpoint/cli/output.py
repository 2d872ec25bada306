"""What all commands share in what they print: text for people, or JSON; data on stdout, chatter on stderr."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agentcheckpoint.show.bars import Line


class Output(StrEnum):
    """How a command prints its result."""

    text = "text"
    json = "json"
    jsonl = "jsonl"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to print it: for people, as one JSON object, or one in each line.")
]
Namespace = Annotated[str, typer.Option(help="Whose runs.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--store",
        "--url",
        help="A Redis or Valkey server; else $AGENTCHECKPOINT_URL, else the embedded one.",
        show_default=False,
    ),
]


def say_record(data: Mapping[str, Any], output: Output) -> None:
    """Print one JSON object: over many lines, or as one line."""
    from agentcheckpoint.show.rows import json_text

    typer.echo(json_text(data, None if output is Output.jsonl else 2))


def say_rows(name: str, rows: Iterable[Mapping[str, Any]], output: Output, **more: Any) -> None:
    """Print rows as one JSON object, under a name and with what else is known; or each as a line."""
    if output is Output.json:
        say_record({name: list(rows), **more}, output)
        return
    for row in rows:
        say_record(row, Output.jsonl)


def say_lines(lines: Sequence[Line]) -> None:
    """Print lines for people: with colours on a terminal, unless ``$NO_COLOR`` is set."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)


def width() -> int:
    """How many columns the terminal has; 80 where there is none."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)

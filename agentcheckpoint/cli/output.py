"""What all commands share in what they print: text for people, or JSON; data on stdout, chatter on stderr."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    """How a command prints its result."""

    text = "text"
    json = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print the result.")]


def say_json(data: dict[str, object]) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=2))

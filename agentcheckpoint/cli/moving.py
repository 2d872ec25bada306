"""``agentcheckpoint export`` and ``import``: a run as a file, and a file as a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_record
from agentcheckpoint.cli.which import RunName, which_run

PIPE = Path("-")


def export(
    run: RunName,
    file: Annotated[
        Path, typer.Argument(dir_okay=False, allow_dash=True, help="Where to; - is stdout.", show_default=False)
    ] = PIPE,
    namespace: Namespace = "default",
    url: Url = None,
) -> None:
    """Write a run to a file, as lines of JSON: its log, its results in clear, and its ledger. Nothing is changed.

    Example: agentcheckpoint export research-42 research-42.jsonl
    """
    from agentcheckpoint.export import export_run

    name = which_run(run, url, namespace)
    try:
        export_run(name, sys.stdout if file == PIPE else file, store=url, namespace=namespace)
    except BrokenPipeError:
        raise  # typer ends it quietly
    except OSError as error:
        _fail(error)


def bring(
    file: Annotated[
        Path, typer.Argument(dir_okay=False, allow_dash=True, help="What `export` has written; - is stdin.")
    ],
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="The run's name; else the one it had.", show_default=False),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Whose run it becomes; else the one it was in.", show_default=False)
    ] = None,
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Make the run that a file holds, whole or not at all.

    Example: agentcheckpoint import research-42.jsonl --as research-43
    """
    from agentcheckpoint.export import import_run

    try:
        name = import_run(sys.stdin if file == PIPE else file, as_=as_, store=url, namespace=namespace)
    except OSError as error:
        _fail(error)
    if output is Output.text:
        from agentcheckpoint.show.layout import plain

        typer.echo(f"imported: {plain(name)}")
    else:
        say_record({"run": name}, output)


def _fail(error: OSError) -> NoReturn:
    """A file that cannot be read or written is one message, and exit code 1."""
    typer.echo(f"agentcheckpoint: {error}", err=True)
    raise typer.Exit(1) from error

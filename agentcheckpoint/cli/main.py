"""The command line: what is asked is done, what goes wrong is one message on stderr and an exit code.

0 ok · 1 failed · 2 wrong usage · 3 not found · 4 the run waits for somebody · 5 the store cannot be reached
"""

from __future__ import annotations

import sys
import warnings
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, TextIO

import typer

from agentcheckpoint.cli.verbs import Verbs

_CODES = {
    "StoreUnavailable": 5,
    "RunNotFound": 3,
    "RunDeleted": 3,
    "WaitNotFound": 3,
    "AnswerRefused": 2,
    "InvalidStore": 2,
    "InvalidName": 2,
    "AgentCheckpointError": 1,
}
"""By the names of errors, which ``--help`` does not import; the nearest of an error's own classes counts."""

SHORT = "ackp"

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would make --help slower by half
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Retry your agent without paying twice: LLM and tool steps, checkpointed in Redis.",
)


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if show_version:
        from importlib.metadata import version

        typer.echo(f"agentcheckpoint {version('agentcheckpoint-redis')}")
        raise typer.Exit


def main() -> None:
    """The entry point of ``agentcheckpoint``, and of ``ackp``, its short name."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    try:
        app(prog_name=SHORT if Path(sys.argv[0]).name == SHORT else "agentcheckpoint")
    except Exception as error:
        from agentcheckpoint.errors import AgentCheckpointError

        if not isinstance(error, AgentCheckpointError):
            raise
        typer.echo(f"agentcheckpoint: {error}", err=True)
        sys.exit(next(_CODES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _CODES))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours is a sentence for the user of the command; whose line of code it was says him nothing."""
    from agentcheckpoint.errors import AgentCheckpointWarning

    if issubclass(category, AgentCheckpointWarning):
        typer.echo(f"note: {message}", err=True)
    else:
        typer.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)

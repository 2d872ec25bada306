"""``agentcheckpoint server``: the embedded server of a state directory."""

from __future__ import annotations

import typer

from agentcheckpoint.cli.output import Output, OutputOption, say_record, width

NOT_FOUND = 3

server = typer.Typer(no_args_is_help=True, help="Look at the embedded server, or stop it.")


@server.command()
def status(output: OutputOption = Output.text) -> None:
    """Say whether the embedded server runs. Exit code 3: it does not.

    It is the one of $AGENTCHECKPOINT_HOME, else of the user's data directory.

    Example: agentcheckpoint server status -o json
    """
    from agentcheckpoint.store.embedded import server_status, state_directory

    home = state_directory()
    running = server_status(home)
    if output is not Output.text:
        facts = {"socket": str(running.socket), "pid": running.pid, "url": running.url} if running else {}
        say_record({"running": running is not None, "home": str(home), **facts}, output)
    elif running is not None:
        _say(f"running: pid {running.pid}, {running.url}, data in {home}")
    else:
        _say(f"not running; data in {home}")
    if running is None:
        raise typer.Exit(NOT_FOUND)


@server.command()
def stop(output: OutputOption = Output.text) -> None:
    """Stop the embedded server. Its data stays, and the next run starts it again.

    Example: agentcheckpoint server stop
    """
    from agentcheckpoint.store.embedded import state_directory, stop_server

    home = state_directory()
    stopped = stop_server(home)
    if output is not Output.text:
        say_record({"stopped": stopped, "home": str(home)}, output)
    else:
        _say(f"stopped; data in {home}" if stopped else f"none was running; data in {home}")


def _say(text: str) -> None:
    """Print a sentence broken to the terminal's width, and so is a path that is longer still."""
    import textwrap

    from agentcheckpoint.show.layout import plain

    typer.echo(textwrap.fill(plain(text), width(), break_on_hyphens=False))

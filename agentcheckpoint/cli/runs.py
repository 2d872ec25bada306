"""``agentcheckpoint runs``: the runs of a namespace, the last ones first."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from agentcheckpoint.cli.cost import Moment
from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_rows, width


def runs(
    state: Annotated[
        str | None, typer.Option(help="Those of this state alone, such as failed or waiting.", show_default=False)
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Those of this agent alone.", show_default=False)] = None,
    conversation: Annotated[
        str | None, typer.Option(help="Those of this conversation alone.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many at most.")] = 20,
    before: Moment = None,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """List runs, the one that was opened last first.

    Example: agentcheckpoint runs --state failed --limit 5
    """
    from agentcheckpoint.cli.records import states
    from agentcheckpoint.listing import list_runs, run_record, table

    if state is not None and state not in states():
        raise typer.BadParameter(f"{state!r}: a run is {', '.join(states())}", param_hint="--state")
    listing = list_runs(
        state=state,
        agent=agent,
        conversation=conversation,
        before_ms=None if before is None else int(before.timestamp() * 1000),
        store=url,
        namespace=namespace,
    )
    found = list(islice(listing, limit))
    if output is not Output.text:
        say_rows("runs", map(run_record, found), output)
    elif found:
        typer.echo(table(found, width()))
    else:
        typer.echo("no such run", err=True)
    for note in listing.notes:
        typer.echo(f"note: {note}", err=True)

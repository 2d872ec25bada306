"""``agentcheckpoint runs``: the runs of a namespace, the last ones first."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from agentcheckpoint.cli.cost import Moment
from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_rows, width

if TYPE_CHECKING:
    from agentcheckpoint.core.ledger import CostReport
    from agentcheckpoint.view import RunView


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
    from agentcheckpoint.listing import list_runs, run_record

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
        typer.echo(_table(found))
    else:
        typer.echo("no such run", err=True)
    for note in listing.notes:
        typer.echo(f"note: {note}", err=True)


def _table(found: list[RunView]) -> str:
    from agentcheckpoint.core.ledger import money
    from agentcheckpoint.show.layout import Column, lay_out, plain

    columns = [
        Column(["run", *(plain(run.id) for run in found)], 9),
        Column(["state", *(run.state for run in found)], 8),
        Column(["agent", *(plain(run.agent or "") for run in found)], 5),
        Column(["age", *(age_text(run.entries[0].at) for run in found)], 4, right=True),
        Column(["attempts", *(str(run.attempt) for run in found)], 6, right=True),
        Column(["cost", *(cost_text(run.cost) for run in found)], 7, right=True),
        Column(["saved", *(money(run.cost.saved) if run.cost.saved else "" for run in found)], 3, right=True),
    ]
    return lay_out(columns, width())


def cost_text(cost: CostReport) -> str:
    """What was spent, in a few characters: nothing where nothing was bought, and no sum where it is not known."""
    from agentcheckpoint.core.ledger import money

    if not cost.attempts:
        return ""
    known = money(cost.spent if cost.spent or not (cost.unpriced or cost.unresolved) else None)
    return f"≥ {known}" if cost.spent and (cost.unpriced or cost.unresolved) else known


def age_text(ms: int) -> str:
    """How long ago a moment of the store's clock was, on this machine's."""
    seconds = max(0, int(time.time() - ms / 1000))
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{letter}"
    return f"{seconds}s"

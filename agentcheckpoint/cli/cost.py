"""``agentcheckpoint cost``: what one or all runs cost."""

from __future__ import annotations

import datetime
import re
import sys
from enum import StrEnum
from typing import Annotated

import typer

from agentcheckpoint.cli.completing import complete_run
from agentcheckpoint.cli.output import Namespace, Url, width
from agentcheckpoint.cli.which import which_run

_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Shape(StrEnum):
    """How the costs are printed."""

    text = "text"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


class Key(StrEnum):
    """What they are summed by."""

    run = "run"
    agent = "agent"
    model = "model"
    step = "step"
    tag = "tag"
    day = "day"


def _moment(text: str) -> datetime.datetime:
    """A time: how long ago, or as ISO 8601, in UTC where it names no zone."""
    now = datetime.datetime.now(datetime.UTC)
    try:
        if ago := _AGO.fullmatch(text):
            return now - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.datetime.fromisoformat(text)
    except (OverflowError, ValueError):
        raise typer.BadParameter(f"{text!r} is no time: write 30m, 12h, 7d, or a day such as 2026-11-24") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)


Moment = Annotated[
    datetime.datetime | None,
    typer.Option(
        parser=_moment, metavar="TIME", help="7d, 12h or 30m ago, or a day or time (UTC).", show_default=False
    ),
]


def cost(
    run: Annotated[
        str | None,
        typer.Argument(
            help="One run: its name, a unique beginning, or @last; else all.",
            show_default=False,
            autocompletion=complete_run,
        ),
    ] = None,
    by: Annotated[Key, typer.Option(help="What to sum by.")] = Key.model,
    since: Moment = None,
    until: Moment = None,
    agent: Annotated[str | None, typer.Option(help="Runs of this agent alone.", show_default=False)] = None,
    tag: Annotated[str | None, typer.Option(help="Attempts with this tag alone.", show_default=False)] = None,
    attempts: Annotated[bool, typer.Option("--attempts", help="Every single attempt, no sums; csv or jsonl.")] = False,
    namespace: Namespace = "default",
    url: Url = None,
    output: Annotated[Shape, typer.Option("--output", "-o", help="How to print it.")] = Shape.text,
) -> None:
    """Show what runs cost: paid, wasted, unresolved, and saved by replaying.

    Example: agentcheckpoint cost --by step --since 7d
    """
    from agentcheckpoint.costing import costs, export_ledger
    from agentcheckpoint.show.cost_table import cost_text

    run = None if run is None else which_run(run, url, namespace)
    if attempts:
        if output not in (Shape.csv, Shape.jsonl):
            raise typer.BadParameter("--attempts needs -o csv or -o jsonl")
        sys.stdout.reconfigure(newline="")  # type: ignore[union-attr]
        notes = export_ledger(
            sys.stdout, format="csv" if output is Shape.csv else "jsonl", runs=run, since=since, until=until,
            agent=agent, tag=tag, store=url, namespace=namespace,
        )  # fmt: skip
    else:
        table = costs(
            by=by.value, runs=run, since=since, until=until, agent=agent, tag=tag, store=url, namespace=namespace
        )
        notes = () if output is Shape.json else table.notes
        if output is Shape.text:
            typer.echo(cost_text(by, table.rows, table.total, (), width(), None))
        else:
            shapes = {Shape.json: table.to_json, Shape.jsonl: table.to_jsonl, Shape.csv: table.to_csv}
            typer.echo(shapes[output](), nl=output is Shape.json)
    for note in notes:
        typer.echo(f"note: {note}", err=True)

"""``agentcheckpoint prune``: finished runs deleted when they are old enough."""

from __future__ import annotations

import datetime
import re
from typing import Annotated

import typer

from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_record

_AGE = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _age(option: str, text: str) -> datetime.timedelta | None:
    """A span of time; ``None`` for ``never``."""
    if text == "never":
        return None
    if (age := _AGE.fullmatch(text)) is None:
        raise typer.BadParameter(f"{option} {text!r} is no age: write 30d, 12h, 45m, 10s, or never")
    return datetime.timedelta(**{_UNITS[age[2]]: int(age[1])})


Age = Annotated[str, typer.Option(metavar="AGE", help="How old they become: 30d, 12h, 45m, 10s, or never.")]


def prune(
    completed: Age = "30d",
    failed: Age = "30d",
    cancelled: Age = "30d",
    keep_ledger: Annotated[bool, typer.Option("--keep-ledger", help="Keep what the runs cost.")] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="Delete so many at most.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; say what would be.")] = False,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Delete finished runs that are old enough. Runs that are not finished are never deleted.

    Example: agentcheckpoint prune --completed 7d --failed never --keep-ledger
    """
    from agentcheckpoint.retention import prune as delete_old

    done = delete_old(
        completed=_age("--completed", completed),
        failed=_age("--failed", failed),
        cancelled=_age("--cancelled", cancelled),
        keep_ledger=keep_ledger,
        limit=limit,
        dry_run=dry_run,
        store=url,
        namespace=namespace,
    )
    if output is not Output.text:
        say_record(done.to_record(), output)
        return
    typer.echo(done.summary)
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)

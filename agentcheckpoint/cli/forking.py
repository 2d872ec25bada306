"""``agentcheckpoint fork`` and ``rewind``: a run of its own, or the same run, from an earlier step on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcheckpoint.cli.answer import json_or_text
from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_record, width
from agentcheckpoint.cli.which import RunName, which_run

if TYPE_CHECKING:
    from agentcheckpoint.previewing import Preview

After = Annotated[str, typer.Option(metavar="STEP", help="The last step that is kept.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would come of it.")]


def fork(
    run: RunName,
    after: After,
    as_: Annotated[str, typer.Option("--as", metavar="NAME", help="The name of the new run.", show_default=False)],
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP=VALUE", help="A result in place of a recorded one: JSON, else text.", show_default=False
        ),
    ] = None,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Make a new run that has the records of another up to a step, and pays for none of them.

    Example: agentcheckpoint fork research-42 --after plan --as research-43 --override 'plan=["here"]' --dry-run
    """
    from agentcheckpoint.forks import fork as make

    name = which_run(run, url, namespace)
    given = dict(map(_given, override or ()))
    seen = make(name, after=after, as_=as_, override=given, dry_run=dry_run, store=url, namespace=namespace)
    _say(seen, output)


def rewind(
    run: RunName,
    after: After,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Let a run go back to where it was after a step. What it has cost since stays in its account.

    Example: agentcheckpoint rewind research-42 --after plan --dry-run
    """
    from agentcheckpoint.forks import rewind as go_back

    name = which_run(run, url, namespace)
    _say(go_back(name, after=after, dry_run=dry_run, store=url, namespace=namespace), output)


def _given(text: str) -> tuple[str, Any]:
    """A step and its value. A step's key may hold a ``=`` in its brackets."""
    depth = 0
    for n, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "=" and depth <= 0 and n:
            return text[:n], json_or_text(text[n + 1 :])
    raise typer.BadParameter(f"{text!r}: write STEP=VALUE", param_hint="--override")


def _say(preview: Preview, output: Output) -> None:
    from agentcheckpoint.cli.records import preview_record

    if output is not Output.text:
        say_record(preview_record(preview), output)
        return
    typer.echo(preview.text(width()))
    if preview.dry_run:
        typer.echo("nothing was changed", err=True)

"""``agentcheckpoint resume``, ``retry`` and ``cancel``: a run goes on, or ends."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_record
from agentcheckpoint.cli.tail import OUTCOMES
from agentcheckpoint.cli.which import RunName, which_run


def resume(
    agent: Annotated[str, typer.Argument(metavar="MODULE:AGENT", help="Whose run it is.", show_default=False)],
    run: RunName,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Make an attempt of an agent's run here, with the arguments that are stored for it.

    Exit code 0: it is completed. 1: it is not. 4: it waits. What the agent prints goes to stderr.

    Example: agentcheckpoint resume research:research research-42
    """
    from agentcheckpoint.cli.worker import agent_at
    from agentcheckpoint.jobs.work import work_on
    from agentcheckpoint.listing import run_record
    from agentcheckpoint.view import get

    sys.path.insert(0, os.getcwd())
    found, name = agent_at(agent), which_run(run, url, namespace)
    with redirect_stdout(sys.stderr):
        worked = work_on(found, name, store=url, namespace=namespace)
    if worked.state is None and worked.error is not None:
        raise worked.error
    seen = get(name, store=url, namespace=namespace)
    if output is Output.text:
        from agentcheckpoint.show.layout import plain

        typer.echo(f"{plain(name)}: {seen.state} · {seen.cost}")
        if worked.error is not None:
            typer.echo(plain(f"{type(worked.error).__name__}: {worked.error}"), err=True)
    else:
        error = None if worked.error is None else {"type": type(worked.error).__name__, "message": str(worked.error)}
        say_record({**run_record(seen), "error": error}, output)
    raise typer.Exit(_code(worked.error))


def _code(error: BaseException | None) -> int:
    """What ended the attempt, or kept it from beginning, as an exit code."""
    from agentcheckpoint.core.lifecycle import leaves
    from agentcheckpoint.errors import Suspended

    if error is None:
        return OUTCOMES["completed"]
    return OUTCOMES["waiting"] if all(isinstance(end, Suspended) for end in leaves(error)) else 1


def retry(run: RunName, namespace: Namespace = "default", url: Url = None, output: OutputOption = Output.text) -> None:
    """Let a run go on now that failed, was cancelled, or waits for its next try. A worker finds it.

    Example: agentcheckpoint retry research-42
    """
    from agentcheckpoint.jobs.ending import retry as let_go_on

    name = which_run(run, url, namespace)
    let_go_on(name, store=url, namespace=namespace)
    _say(name, {"due": True}, "is due: a worker of its agent goes on with it, or whoever opens it", output)


def cancel(
    run: RunName,
    reason: Annotated[str, typer.Option(help="Why, for people.", show_default=False)] = "",
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """End a run: at once, or, if somebody works on it, at its next commit. What it has recorded stays.

    Example: agentcheckpoint cancel research-42 --reason "asked the wrong question"
    """
    from agentcheckpoint.jobs.ending import cancel as end

    name = which_run(run, url, namespace)
    ended = end(name, reason=reason, store=url, namespace=namespace)
    told = "is cancelled" if ended else "is at work: its worker is told, and ends it soon"
    _say(name, {"cancelled": ended}, told, output)


def _say(name: str, facts: dict[str, object], told: str, output: Output) -> None:
    from agentcheckpoint.show.layout import plain

    if output is Output.text:
        typer.echo(f"{plain(name)} {told}")
    else:
        say_record({"run": name, **facts}, output)

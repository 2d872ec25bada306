"""``agentcheckpoint worker``: works on the runs of some agents that are due."""

from __future__ import annotations

import importlib
import json
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from agentcheckpoint.cli.output import Namespace, Url

if TYPE_CHECKING:
    from agentcheckpoint.agents import Agent
    from agentcheckpoint.jobs.work import Worked


class Shape(StrEnum):
    """How each attempt is told of: a line for people on stderr, or one of JSON on stdout."""

    text = "text"
    jsonl = "jsonl"


def worker(
    agents: Annotated[list[str], typer.Argument(metavar="MODULE:AGENT...", help="Whose runs to work on.")],
    concurrency: Annotated[int, typer.Option(min=1, help="How many runs at a time.")] = 10,
    namespace: Namespace = "default",
    url: Url = None,
    poll: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks for work.")] = 0.5,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End once no run of these agents is due.")] = False,
    output: Annotated[Shape, typer.Option("--output", "-o", help="How to tell of each attempt.")] = Shape.text,
) -> None:
    """Work on runs that were submitted, interrupted or answered, are to be tried again, or whose worker has died.

    SIGTERM and Ctrl-C end each attempt at its next commit, and then the worker; a second one ends it at once.

    Example: agentcheckpoint worker research:research --concurrency 4
    """
    from agentcheckpoint.jobs.worker import Worker

    sys.path.insert(0, os.getcwd())
    found = [agent_at(name) for name in agents]
    tell = _tell_json if output is Shape.jsonl else _tell
    typer.echo(f"working on runs of {', '.join(agent.name for agent in found)}, {concurrency} at a time", err=True)
    Worker(
        found,
        concurrency=concurrency,
        store=url,
        namespace=namespace,
        poll=poll,
        until_idle=until_idle,
        on_attempt=tell,
        on_note=lambda note: typer.echo(f"note: {note}", err=True),
    ).run()


def agent_at(place: str) -> Agent[..., Any]:
    """The agent at ``module:name``."""
    from agentcheckpoint.agents import Agent

    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise typer.BadParameter(f"{place!r}: write module:agent, such as research:research")
    try:
        thing: Any = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        raise typer.BadParameter(f"{place!r}: {exc}") from None
    for part in name.split("."):
        thing = getattr(thing, part, None)
    if not isinstance(thing, Agent):
        raise typer.BadParameter(f"{place!r}: there is no agent of that name; decorate the function with @ac.agent")
    return cast("Agent[..., Any]", thing)


def _tell(run_id: str, agent: str, worked: Worked, seconds: float) -> None:
    from agentcheckpoint.show.layout import plain

    why = "" if worked.error is None else f": {type(worked.error).__name__}: {worked.error}"
    typer.echo(plain(f"{agent} {run_id}: {worked.state or 'gone'}, {seconds:.1f} s{why}"), err=True)


def _tell_json(run_id: str, agent: str, worked: Worked, seconds: float) -> None:
    error = None if worked.error is None else {"type": type(worked.error).__name__, "message": str(worked.error)}
    line = {"run": run_id, "agent": agent, "state": worked.state, "due_ms": worked.due_ms, "seconds": round(seconds, 3)}
    typer.echo(json.dumps({**line, "error": error}, ensure_ascii=False))

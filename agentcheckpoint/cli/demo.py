"""``agentcheckpoint demo``: kill a real agent, and see what it paid twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentcheckpoint.cli.output import Output, OutputOption, Url, say_record
from agentcheckpoint.demo import LATENCY, DemoFailed

if TYPE_CHECKING:
    from agentcheckpoint.demo.play import Terms


def demo(
    question: Annotated[str | None, typer.Argument(help="What to ask about the documents.", show_default=False)] = None,
    docs: Annotated[
        Path | None,
        typer.Option(
            help="A folder of .md, .rst and .txt files; else this project's own documents.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    kills: Annotated[
        int | None, typer.Option(min=0, help="How often to kill the worker.", show_default="2, or 1 with --kill-after")
    ] = None,
    kill_after: Annotated[
        int | None,
        typer.Option(min=1, help="Kill it after so many commits, not at random moments.", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Choose the same moments again.", show_default=False)] = None,
    latency: Annotated[float, typer.Option(min=0, help="Seconds that the model takes to answer.")] = LATENCY,
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Kill an agent while it works, start it again, and compare what it paid with the provider's own journal.

    The agent is a plain loop over the OpenAI SDK with three tools; the provider is on loopback and costs nothing.

    Example: agentcheckpoint demo --docs ~/notes "What did we decide about the budget?" --kills 3
    """
    import tempfile

    from agentcheckpoint.demo.documents import OVERVIEW, QUESTION, count_documents
    from agentcheckpoint.demo.play import Terms

    if (url or os.environ.get("AGENTCHECKPOINT_URL", "")).startswith("memory:"):
        raise typer.BadParameter("what is kept in memory dies with the worker: there would be nothing to resume")
    with tempfile.TemporaryDirectory(prefix="agentcheckpoint-demo-") as room:
        terms = Terms(
            folder=_folder(docs, Path(room)),
            question=question or (OVERVIEW if docs is not None else QUESTION),
            kills=kills if kills is not None else 2 if kill_after is None else 1,
            kill_after=kill_after,
            seed=seed,
            latency=latency,
            store=url,
        )
        _play(terms, count_documents(terms.folder), Path(room), output)


def _folder(docs: Path | None, room: Path) -> Path:
    """The folder that was asked for, else a copy of the project's own documents."""
    from agentcheckpoint.demo.documents import count_documents, own_documents

    if docs is None:
        own = room / "documents"
        own.mkdir()
        return own_documents(own)
    if not count_documents(docs):
        raise typer.BadParameter(f"{docs} holds no .md, .rst or .txt file", param_hint="--docs")
    return docs.resolve()


def _play(terms: Terms, documents: int, room: Path, output: Output) -> None:
    from rich.console import Console

    from agentcheckpoint.demo.play import play
    from agentcheckpoint.demo.story import Story
    from agentcheckpoint.store.connect import connect

    store = connect(terms.store)
    chatter = Console(stderr=True, highlight=False)
    console = chatter if output is not Output.text else Console(highlight=False)
    with Story(console, progress=console if console.is_terminal else chatter) as story:
        story.begins(documents, terms.question, store.name)
        try:
            outcome = play(terms, store, room, story)
        except DemoFailed as failure:
            typer.echo(f"agentcheckpoint: {failure}", err=True)
            raise typer.Exit(1) from failure
        story.ends(outcome)
    said = room / "errors"
    typer.echo(said.read_text("utf-8", "replace"), err=True, nl=False)
    if output is not Output.text:
        say_record(outcome.as_data(), output)
    if terms.store is None and not os.environ.get("AGENTCHECKPOINT_URL"):
        chatter.print("The embedded server keeps running: `agentcheckpoint server stop` ends it.", style="dim")
    if outcome.problems:
        raise typer.Exit(1)

"""``agentcheckpoint demo``: kill a real agent, and see what it paid twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcheckpoint.cli.output import Output, OutputOption, Url, say_record
from agentcheckpoint.demo import LATENCY, DemoFailed

if TYPE_CHECKING:
    from agentcheckpoint.demo.play import Terms
    from agentcheckpoint.demo.story import Story
    from agentcheckpoint.store.store import Store


class Loopback:
    """In the place of a model: the provider is on loopback."""


LOOPBACK = Loopback()


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
    live: Annotated[
        bool, typer.Option("--live", help="Ask the provider of $OPENAI_BASE_URL with $OPENAI_API_KEY. It costs money.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="With --live: which; else $OPENAI_MODEL, else gpt-5-mini.", show_default=False)
    ] = None,
    latency: Annotated[float, typer.Option(min=0, help="Seconds that the model takes to answer.")] = LATENCY,
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Kill an agent while it works, start it again, and compare what it paid with the provider's own journal.

    The agent is a plain loop over the OpenAI SDK with three tools; the provider is on loopback and costs nothing, but
    with --live.

    Example: agentcheckpoint demo --docs ~/notes "What did we decide about the budget?" --kills 3
    """
    import tempfile

    from agentcheckpoint.demo.documents import OVERVIEW, QUESTION, count_documents
    from agentcheckpoint.demo.play import Terms

    if (url or os.environ.get("AGENTCHECKPOINT_URL", "")).startswith("memory:"):
        raise typer.BadParameter("what is kept in memory dies with the worker: there would be nothing to resume")
    _check_live(live, model, seed)
    with tempfile.TemporaryDirectory(prefix="agentcheckpoint-demo-") as room:
        terms = Terms(
            folder=_folder(docs, Path(room)),
            question=question or (OVERVIEW if docs is not None else QUESTION),
            kills=kills if kills is not None else 2 if kill_after is None and not live else 1,
            kill_after=kill_after,
            seed=seed,
            latency=latency,
            store=url,
        )
        _tell(terms, count_documents(terms.folder), Path(room), output, model if live else LOOPBACK)


def _check_live(live: bool, model: str | None, seed: int | None) -> None:
    if live and not os.environ.get("OPENAI_API_KEY"):
        raise typer.BadParameter("--live needs a key in $OPENAI_API_KEY")
    if live and seed is not None:
        raise typer.BadParameter(
            "--seed chooses moments, for which --live would have to pay for a run: it kills after so many commits"
        )
    if model is not None and not live:
        raise typer.BadParameter("--model is for --live: the provider on loopback has one model")


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


def _tell(terms: Terms, documents: int, room: Path, output: Output, model: str | Loopback | None) -> None:
    from rich.console import Console

    from agentcheckpoint.demo.story import Story
    from agentcheckpoint.store.connect import connect

    store = connect(terms.store)
    chatter = Console(stderr=True, highlight=False)
    console = Console(highlight=False) if output is Output.text else chatter
    with Story(console, progress=console if console.is_terminal else chatter) as story:
        story.begins(documents, terms.question, store.name, _provider(model))
        try:
            data, problems = _play(terms, store, room, story, model)
        except DemoFailed as failure:
            typer.echo(f"agentcheckpoint: {failure}", err=True)
            raise typer.Exit(1) from failure
    said = room / "errors"
    typer.echo(said.read_text("utf-8", "replace"), err=True, nl=False)
    if output is not Output.text:
        say_record(data, output)
    if terms.store is None and not os.environ.get("AGENTCHECKPOINT_URL"):
        chatter.print("The embedded server keeps running: `agentcheckpoint server stop` ends it.", style="dim")
    if problems:
        raise typer.Exit(1)


def _play(
    terms: Terms, store: Store, room: Path, story: Story, model: str | Loopback | None
) -> tuple[dict[str, Any], bool]:
    """Plays it and tells how it ended: as data, and whether something is wrong."""
    from agentcheckpoint.demo.play import play
    from agentcheckpoint.demo.real import play_live

    if isinstance(model, Loopback):
        outcome = play(terms, store, room, story)
        story.ends(outcome)
        return outcome.as_data(), bool(outcome.problems)
    ended = play_live(terms, model, store, room, story)
    story.ends_live(ended)
    return ended.as_data(), ended.bought_twice > 0


def _provider(model: str | Loopback | None) -> str:
    """Who answers, in words."""
    if isinstance(model, Loopback):
        return "a provider on loopback that keeps its own journal"
    from urllib.parse import urlsplit

    where = urlsplit(os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").hostname
    return f"{model or os.environ.get('OPENAI_MODEL') or 'gpt-5-mini'} at {where}, which costs money"

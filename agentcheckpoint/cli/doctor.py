"""``agentcheckpoint doctor``: what is known of the store, what is not, and what that means for the promise."""

from __future__ import annotations

import datetime
import time
import warnings
from typing import TYPE_CHECKING, Annotated

import typer

from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_lines, say_rows, width

if TYPE_CHECKING:
    from agentcheckpoint.show.bars import Line
    from agentcheckpoint.store.checkup import Fact
    from agentcheckpoint.store.store import Store

MARKS = {"ok": ("✓", "green"), "note": ("·", ""), "weak": ("✗", "red"), "unknown": ("?", "yellow")}
"""Of each verdict: its mark and colour."""
_OLD_DAYS = 60
"""How old the list of prices may be without a word."""


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="What cannot be looked at counts as a weakness.")] = False,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Say what is known of the store, what is not, and what that means for the promise.

    Exit code 0: nothing is known to weaken it. 1: something does.

    Example: agentcheckpoint doctor --store redis://localhost
    """
    from agentcheckpoint.store.checkup import weakened
    from agentcheckpoint.store.connect import connect

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is told below, fact by fact
        store = connect(url, allow_eviction=True)
    facts = [*_server(store), _schema(store, namespace), _prices(datetime.datetime.now(datetime.UTC).date())]
    unknown = sum(fact.verdict == "unknown" for fact in facts)
    is_weak = weakened(facts) or (strict and unknown > 0)
    if output is Output.text:
        say_lines([line for fact in facts for line in _lines(fact)])
        verdict = "the promise is weakened" if is_weak else "nothing is known to weaken the promise"
        typer.echo(f"{store.name}: {verdict}{f'; {unknown} unknown' if unknown else ''}", err=True)
    else:
        rows = [{"about": f.about, "value": f.value, "verdict": f.verdict, "means": f.means} for f in facts]
        say_rows("facts", rows, output, store=store.name, weakened=is_weak)
    raise typer.Exit(int(is_weak))


def _server(store: Store) -> list[Fact]:
    from agentcheckpoint.store.checkup import ask_server, memory_facts, server_facts

    if store.health is None:
        return memory_facts()
    before = time.time()
    told = store.run(ask_server())
    after = time.time()
    local, within = int((before + after) * 500), int((after - before) * 500) + 1
    return server_facts(store.health, told, store.name, local, within)


def _schema(store: Store, namespace: str) -> Fact:
    """Whether a newer version of this library has been at work here, as far as the run shows that was opened last."""
    from agentcheckpoint.core.models import SCHEMA
    from agentcheckpoint.errors import AgentCheckpointError, RunNotFound, StoreUnavailable
    from agentcheckpoint.store.checkup import Fact
    from agentcheckpoint.store.index import newest
    from agentcheckpoint.view import get

    listed = store.run(newest(namespace, 1))
    try:
        if listed:
            get(listed[0].run_id, store=store, namespace=namespace)
    except RunNotFound:
        pass  # it was deleted
    except StoreUnavailable:
        raise
    except AgentCheckpointError as error:
        return Fact("schema", f"{SCHEMA}", "weak", f"the last run cannot be read: {error}")
    return Fact("schema", f"{SCHEMA}", "ok", "the last run can be read." if listed else "there is no run yet.")


def _prices(today: datetime.date) -> Fact:
    from importlib.metadata import version

    from agentcheckpoint.core.published import newest_price
    from agentcheckpoint.store.checkup import Fact

    day = newest_price(today)
    value = f"genai-prices {version('genai-prices')}, its last dated price of {day}"
    if day is not None and (today - day).days <= _OLD_DAYS:
        return Fact("prices", value, "ok", "")
    means = "prices may have changed since, or only dates are missing: update the package, or give prices of your own."
    return Fact("prices", value, "note", means)


def _lines(fact: Fact) -> list[Line]:
    """A fact for people: its mark, what it is, and what it means, broken to the terminal's width."""
    import textwrap

    from agentcheckpoint.show.layout import plain

    mark, colour = MARKS[fact.verdict]
    head: Line = [(f"{mark} ", colour), (f"{fact.about:<12}", "bold"), (plain(fact.value), "")]
    means = textwrap.wrap(plain(fact.means), width() - 14)
    return [head, *([(" " * 14 + line, "dim")] for line in means)]

"""``agentcheckpoint tail``: a run while somebody works on it, until it has ended or waits for somebody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcheckpoint.cli.output import Namespace, Output, OutputOption, Url, say_record
from agentcheckpoint.cli.which import RunName, which_run

if TYPE_CHECKING:
    from agentcheckpoint.core.models import LogEntry
    from agentcheckpoint.store.following import Added
    from agentcheckpoint.store.store import Store
    from agentcheckpoint.view import Address

OUTCOMES = {"completed": 0, "waiting": 4}
"""Exit codes of states; of any other it is 1."""


def tail(
    run: RunName,
    poll: Annotated[float, typer.Option(min=0.02, help="Seconds between two looks.")] = 0.5,
    namespace: Namespace = "default",
    url: Url = None,
    output: OutputOption = Output.text,
) -> None:
    """Follow a run: a line, with its time in UTC, for all that is recorded, until it has ended or waits for an answer.

    Exit code 0: it is completed. 1: it failed or was cancelled. 4: it waits for somebody to answer.

    Example: agentcheckpoint tail @last
    """
    from agentcheckpoint.store.connect import connect
    from agentcheckpoint.view import address_of

    name, store = which_run(run, url, namespace), connect(url)
    told: list[dict[str, Any]] = []
    state = ""
    for added in _looks(store, address_of(name, namespace), poll):
        state = added.state
        for entry in added.entries:
            if output is Output.text:
                _tell(entry)
            elif output is Output.jsonl:
                say_record(_record(entry), output)
            else:
                told.append(_record(entry))
    if output is Output.json:
        say_record({"run": name, "state": state, "entries": told}, output)
    raise typer.Exit(OUTCOMES.get(state, 1))


def _looks(store: Store, address: Address, poll: float) -> Iterator[Added]:
    """One look after another; the last one has shown the outcome. That nobody works on the run is said once."""
    from agentcheckpoint.store.following import added_since

    entries: list[LogEntry] = []
    was_held = True
    while True:
        added = store.run(added_since(address, len(entries)))
        entries += added.entries
        yield added
        if _is_over(entries, added.state):
            return
        if was_held and not added.is_held:
            typer.echo(f"note: nobody works on it now ({added.state})", err=True)
        was_held = added.is_held
        time.sleep(poll)


def _is_over(entries: list[LogEntry], state: str) -> bool:
    from agentcheckpoint.core.lifecycle import ENDED, since_restart
    from agentcheckpoint.core.waits import Waits

    if state in ENDED:
        return True
    return state == "waiting" and any(entry.answer for entry in Waits(since_restart(entries)).open())


def _tell(entry: LogEntry) -> None:
    from agentcheckpoint.show.telling import entry_text

    if (line := entry_text(entry)) is not None:
        typer.echo(f"{time.strftime('%H:%M:%S', time.gmtime(entry.at / 1000))}  {line}")


def _record(entry: LogEntry) -> dict[str, Any]:
    """What stands in the log, less the digests and previews of inputs, with its time as text."""
    from agentcheckpoint.core.models import LOG_ENTRY
    from agentcheckpoint.core.spending import iso_time

    left_out = {"v", "inputs", "at", "digest", "entries"}
    fields = LOG_ENTRY.dump_python(entry, mode="json", exclude_none=True, exclude=left_out)
    cost = [paid.model_dump(mode="json", exclude_none=True) for paid in getattr(entry, "entries", ())]
    return {"at": iso_time(entry.at), **fields, **({"paid": cost} if cost else {})}

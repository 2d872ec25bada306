"""Which run is meant: a name, its unique beginning, or ``@last``."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from agentcheckpoint.cli.completing import complete_run

LAST = "@last"
MOST_NAMED = 8
"""How many runs are named that may be meant."""

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The run: its name, a unique beginning, or @last.",
        show_default=False,
        autocompletion=complete_run,
    ),
]


def which_run(text: str, url: str | None, namespace: str) -> str:
    """The name of the run that is meant. A run of exactly that name comes first; one that nobody has is left as it is.

    Raises:
        typer.BadParameter: several begin so; or there is no last one.
        StoreRefused, StoreUnavailable.
    """
    from agentcheckpoint.core.ids import check_namespace, check_run_id
    from agentcheckpoint.show.layout import plain
    from agentcheckpoint.store.connect import connect
    from agentcheckpoint.store.glimpse import Absent, look_at
    from agentcheckpoint.store.index import listed_runs, newest
    from agentcheckpoint.view import address_of

    store = connect(url)
    if text == LAST:
        found = store.run(newest(check_namespace(namespace), 1))
        if not found:
            raise typer.BadParameter(f"{LAST}: no run is listed in namespace {namespace!r}")
        return found[0].run_id
    _, (seen,) = store.run(look_at([address_of(check_run_id(text), namespace)]))
    if not isinstance(seen, Absent):
        return text
    begins = [run for run in islice((r for r in listed_runs(store, namespace) if r.startswith(text)), MOST_NAMED + 1)]
    if len(begins) > 1:
        more = " and more" if len(begins) > MOST_NAMED else ""
        raise typer.BadParameter(
            f"several runs begin with {text!r}: {', '.join(plain(run) for run in begins[:MOST_NAMED])}{more}"
        )
    return begins[0] if begins else text

"""The names of runs that a shell offers: those that were opened last. It waits for no server, and says nothing."""

from __future__ import annotations

import os
import threading
import warnings

import typer

LOOKED_AT = 500
"""How many runs are looked at, those that were opened last."""
MOST = 50
"""How many are offered."""
PATIENCE = 2.0
"""Seconds that a shell waits for us at most: a server that is away has none to offer."""


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Runs whose names begin so, the one that was opened last first. Also where nothing can be asked: then none."""
    found: list[str] = []

    def look() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found.extend(_newest(ctx.params.get("url"), ctx.params.get("namespace") or "default"))
            except Exception:  # whatever it is, the prompt of a shell is no place to say it
                return

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(PATIENCE)
    # What a shell cannot take as it stands, such as a space in a name, is left out.
    return [name for name in found if name.startswith(incomplete) and name.isprintable() and " " not in name][:MOST]


def _newest(url: str | None, namespace: str) -> list[str]:
    from agentcheckpoint.store.connect import connect
    from agentcheckpoint.store.embedded import server_status
    from agentcheckpoint.store.index import newest

    if url is None and not os.environ.get("AGENTCHECKPOINT_URL") and server_status() is None:
        return []  # the embedded server would be started for this
    return [listed.run_id for listed in connect(url).run(newest(namespace, LOOKED_AT))]

"""A run as the library wrote it, kept for ever: ``tests/golden/schema-N.json``.

``python -m tests.faults.golden`` writes the file of today's schema. Where what is stored changes on purpose, the schema
is raised if an older library would misread it, and a new file is written; the old ones stay and must open for ever.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Any

import agentcheckpoint as ac
from agentcheckpoint.core.models import SCHEMA

from . import rich
from .stored import Contents, Value, contents, key_of, put, send

FOLDER = Path(__file__).parent.parent / "golden"
ROOT = FOLDER.parent.parent


def path_of(schema: int) -> Path:
    """The golden file of a schema."""
    return FOLDER / f"schema-{schema}.json"


def load(path: Path) -> tuple[Contents, dict[str, Any]]:
    """The raw keys in a golden file, and what must be seen in them."""
    kept = json.loads(path.read_text("utf-8"))
    return {name.encode(): _revived(value) for name, value in kept["keys"].items()}, kept["expected"]


def make() -> Contents:
    """The rich run as today's library writes it, and a lease as it stands while somebody works on it."""
    url = f"memory://{secrets.token_hex(8)}"
    store = ac.connect(url)
    rich.make(store, url)
    kept = contents(store, rich.RUN)
    with ac.run("leased", store=store):
        (lease,) = send(store, ("GET", key_of(url, "leased", "lease")))
    (log,) = (name for name in kept if name.endswith(b":log"))
    return kept | {log.removesuffix(b"log") + b"lease": lease}


def expected(view: ac.RunView) -> dict[str, Any]:
    """What a view shows, as JSON."""
    cost = view.cost
    return {
        "steps": [[row.slot, row.kind, row.outcome, row.attempts, row.cost, row.size] for row in view.steps],
        "state": view.state,
        "attempt": view.attempt,
        "entries": [entry.k for entry in view.entries],
        "ledger": {entry.id: [entry.bill, entry.slot, entry.cost] for entry in view.ledger},
        "paid": cost.paid,
        "wasted": cost.wasted,
        "saved": cost.saved,
        "unresolved": cost.unresolved,
        "replayed": cost.replayed,
        "tokens": cost.usage.model_dump(),
    }


def _kept(value: Value) -> Any:
    if isinstance(value, dict):
        return {name.decode(): _kept(data) for name, data in value.items()}
    if isinstance(value, list):
        return [_kept(data) for data in value]
    assert isinstance(value, bytes)
    try:
        return _scrubbed(value.decode())
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _revived(value: Any) -> Value:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if "base64" in value:
        return _bytes(value)
    return {name.encode(): _bytes(item) for name, item in value.items()}


def _bytes(item: Any) -> bytes:
    return item.encode() if isinstance(item, str) else base64.b64decode(item["base64"])


def _scrubbed(text: str) -> str:
    """Without what tells of the machine that it was made on: folders in tracebacks, names and numbers of processes."""
    text = re.sub(r'File \\"[^"]*?/(tests|agentcheckpoint|[\w.]+\.py)', r'File \\"\1', text)
    text = text.replace(socket.gethostname() + '"', 'host"').replace(f"pid {os.getpid()} on", "pid 4242 on")
    text = re.sub(r'"boot":"[^"]*"', '"boot":"00000000-0000-4000-8000-000000000000"', text)
    return re.sub(r'"pid":\d+,"start":\d+', '"pid":4242,"start":1', text)


def write() -> None:
    """Writes the golden file of today's schema."""
    kept = {name.decode(): _kept(value) for name, value in make().items()}
    url = f"memory://{secrets.token_hex(8)}"
    put(url, {name.encode(): _revived(value) for name, value in kept.items()})
    seen = expected(ac.get(rich.RUN, store=url))
    path_of(SCHEMA).write_text(
        json.dumps({"keys": kept, "expected": seen}, indent=1, ensure_ascii=False) + "\n", "utf-8"
    )


if __name__ == "__main__":
    write()

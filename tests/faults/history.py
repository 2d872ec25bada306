"""The engine "history": real processes race for a few runs, and their diaries are compared with what is stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import agentcheckpoint as ac
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import Done
from agentcheckpoint.errors import DurabilityWarning
from agentcheckpoint.options import RunOptions
from agentcheckpoint.store.effects import Packet, Protocol
from agentcheckpoint.store.embedded import ensure_server, stop_server
from agentcheckpoint.store.reading import Address, read_results, snapshot
from agentcheckpoint.store.store import Store

from .history_check import Final, check
from .history_diary import Note, read_diaries
from .tally import Tally, Violation

SPARE = 240.0
"""Seconds that the processes may take to start and to end."""


def search(seconds: float, number: int = 0, variant: str = "") -> Tally:
    """Lets them race for so long, on an embedded server of its own.

    Args:
        number: the seed of the kills and stops; what the processes do meanwhile is up to the machine.
        variant: the name of one of ``broken.protocol.VARIANTS``: the workers use the library broken in that way.
    """
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
        warnings.simplefilter("ignore", DurabilityWarning)
        url = ensure_server(Path(home, "server")).url
        try:
            diaries = Path(home, "diaries")
            diaries.mkdir()
            counts = _race(diaries, url, number, seconds, variant)
            return _judge(read_diaries(diaries), ac.connect(url), counts, number)
        finally:
            stop_server(Path(home, "server"))


def _race(diaries: Path, url: str, number: int, seconds: float, variant: str) -> dict[str, int]:
    package = str(__package__)
    root = Path(__file__).parents[len(package.split("."))]
    path = os.pathsep.join((str(root), *filter(None, [os.environ.get("PYTHONPATH")])))
    command = [sys.executable, "-m", f"{package}.history_race", str(diaries), url, str(number), str(seconds)]
    said = subprocess.run(
        [*command, *filter(None, [variant])],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        timeout=seconds + SPARE,
        check=True,
    )
    counts: dict[str, int] = json.loads(said.stdout)
    return counts


def _judge(notes: list[Note], store: Store, counts: dict[str, int], number: int) -> Tally:
    kinds = Counter(note.kind for note in notes)
    hit = counts["killed"] + counts["stopped"]
    tally = Tally(hit, hit, counts["killed"])
    runs = sorted({note.run for note in notes if note.kind == "claim acknowledged"})
    tally.notes = dict(kinds) | {"runs": len(runs), "stopped": counts["stopped"], "failed": counts["failed"]}
    for run in runs:
        final = store.run(_final(Attempt(None, run, RunOptions()).fence))
        for what in check((note for note in notes if note.run == run), final):
            tally.violations.append(Violation("history", str(number), f"run {run}: {what}"))
    return tally


def _final(address: Address) -> Protocol[Final]:
    """What is stored of a run when all is over."""
    loaded = yield from snapshot(address)
    slots = {entry.id: entry.slot for entry in loaded.entries if isinstance(entry, Done)}
    data = (yield from read_results(address, loaded.token, slots)) if slots else {}
    (tokens,) = yield Packet((("LRANGE", address.keys.tokens, 0, -1),))
    return Final(
        ids=tuple(entry.id for entry in loaded.entries),
        tokens=tuple(token.decode() for token in tokens),
        slots=slots,
        results={entry: json.loads(value) for entry, value in data.items()},
    )

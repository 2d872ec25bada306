"""What a process notes of a race, a line each, synced to disk before it goes on: it may be killed at any moment."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Kind = Literal[
    "claim begun",
    "claim acknowledged",
    "claim failed",
    "commit begun",
    "commit acknowledged",
    "commit superseded",
    "commit failed",
    "seen",
    "look begun",
    "looked",
    "left",
]


@dataclass(frozen=True, slots=True)
class Note:
    """One line of a diary.

    Attributes:
        at: nanoseconds on the machine's monotonic clock, which all its processes share.
        who: the process.
        claim: which of the process's openings of a run this belongs to.
        token: of the claim that was acknowledged, or the one that a commit begins under.
        entry: the id of the log entry that is committed.
        slot, value: the step, and what it returned.
        error: the type of the error.
        ids: of the log entries that were shown to who looked.
    """

    kind: Kind
    run: str
    at: int = 0
    who: int = 0
    claim: int = 0
    token: str = ""
    entry: str = ""
    slot: str = ""
    value: str = ""
    error: str = ""
    ids: tuple[str, ...] = ()


class Diary:
    """An append-only file that survives its writer."""

    def __init__(self, directory: Path) -> None:
        self.claim = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(directory / f"{os.getpid()}.diary", flags, 0o600)

    def note(self, kind: Kind, run: str, **more: str | tuple[str, ...]) -> None:
        note = Note(kind, run, time.monotonic_ns(), os.getpid(), self.claim, **more)  # type: ignore[arg-type]
        os.write(self._file, (json.dumps(asdict(note)) + "\n").encode())
        os.fsync(self._file)


def read_diaries(directory: Path) -> list[Note]:
    """All notes of a race, in the order in which they were written."""
    notes = []
    for path in directory.glob("*.diary"):
        for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last newline was cut by a kill
            fields = json.loads(line)
            notes.append(Note(**fields | {"ids": tuple(fields["ids"])}))
    return sorted(notes, key=lambda note: note.at)

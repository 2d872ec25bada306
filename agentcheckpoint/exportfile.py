"""Reads the file of an exported run, and checks that it holds a whole one, as a load does."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core import exported
from agentcheckpoint.core.exported import AnswerLine, CancelLine, EndLine, EntryLine, Header, Line, WasteLine
from agentcheckpoint.core.lifecycle import about
from agentcheckpoint.core.models import LogEntry
from agentcheckpoint.errors import CheckpointCorrupt, CheckpointsLost, SchemaTooNew
from agentcheckpoint.options import RunOptions
from agentcheckpoint.store.exporting import Stored, check_stored


@dataclass(slots=True)
class Exported:
    """A file that holds a whole run.

    Attributes:
        text: where it is read again, from its first line.
        header: which run, and how it stood.
        entries: its log.
        stored: all of it but its results.
    """

    text: TextIO
    header: Header
    entries: list[LogEntry]
    stored: Stored

    def results(self) -> Iterator[tuple[EntryLine, LogEntry, bytes | None]]:
        """Each entry with its result, from the file: they are never in memory together."""
        self.text.seek(0)
        self.text.readline()
        for text in self.text:
            line = exported.read_line(text)
            if isinstance(line, EntryLine):
                yield line, *exported.entry_of(line)


def read_exported(text: TextIO, name: str) -> Exported:
    """Reads and checks a whole file; ``name`` is for messages. Raises what ``import_run`` raises of a file."""
    text.seek(0)
    with _at(name, 1):
        header = exported.read_header(text.readline())
    found, ended = _Found(), False
    for number, line in enumerate(text, start=2):
        with _at(name, number):
            if ended:
                raise exported.Damaged("it stands behind the last line")
            ended = found.take(exported.read_line(line), number)
    if not ended:
        raise CheckpointCorrupt(f"{name}: its last line is missing: it was cut off. Nothing was imported.")
    return Exported(text, header, found.entries, _checked(name, header, found))


@dataclass(slots=True)
class _Found:
    """What was read of a file so far."""

    entries: list[LogEntry] = field(default_factory=list[LogEntry])
    lines: list[bytes] = field(default_factory=list[bytes])
    results: int = 0
    waste: dict[str, bytes] = field(default_factory=dict[str, bytes])
    answers: dict[str, bytes] = field(default_factory=dict[str, bytes])
    cancel: bytes | None = None

    def take(self, line: Line, number: int) -> bool:
        """Whether it was the last line. Raises ``Damaged``, ``TooNew``."""
        match line:
            case EntryLine():
                entry, data = exported.entry_of(line)
                self.entries.append(entry)
                self.lines.append(exported.dense(line.entry).encode())
                self.results += data is not None
            case WasteLine():
                self.waste[exported.waste_of(line).id] = exported.dense(line.waste).encode()
            case AnswerLine():
                self.answers[line.wait] = line.answer.encode()
            case CancelLine():
                self.cancel = line.cancel.encode()
            case EndLine() if line.end != number - 1:
                raise exported.Damaged(f"{line.end} lines were written before it, and {number - 1} are there")
            case EndLine():
                return True
        return False


def _checked(name: str, header: Header, found: _Found) -> Stored:
    begun = about(found.entries)
    if begun is None:
        raise CheckpointCorrupt(f"{name}: its log has no birth mark. Nothing was imported.")
    attempt = Attempt(None, header.run, RunOptions(namespace=header.namespace))
    try:
        return check_stored(
            attempt.fence,
            header.meta,
            found.lines,
            results=found.results,
            waste=found.waste,
            answers=found.answers,
            cancel=found.cancel,
            birth=found.entries[0].id,
            begun=begun,
        )
    except (CheckpointCorrupt, CheckpointsLost, SchemaTooNew) as exc:
        raise type(exc)(f"{name}: what it holds is no whole run. {exc}", run_id=header.run) from None


@contextmanager
def _at(name: str, number: int) -> Generator[None]:
    """What is found wrong inside is said of that line."""
    try:
        yield
    except exported.Damaged as exc:
        raise CheckpointCorrupt(f"{name}, line {number}: {exc}. Nothing was imported.") from None
    except exported.TooNew as exc:
        raise SchemaTooNew(
            f"{name}, line {number}: {exc}. Nothing was imported: upgrade agentcheckpoint-redis."
        ) from None
    except UnicodeError:
        raise CheckpointCorrupt(f"{name}, line {number}: it is not UTF-8. Nothing was imported.") from None

"""A run as a file, and a file as a run: ``ac.export_run`` and ``ac.import_run``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TextIO, TypeAlias

from agentcheckpoint.attempt import Attempt, new_token
from agentcheckpoint.core import exported
from agentcheckpoint.core.exported import AnswerLine, CancelLine, EndLine, Header, Line, WasteLine
from agentcheckpoint.core.lifecycle import ENDED
from agentcheckpoint.core.models import Opened, Payload, payload_of
from agentcheckpoint.exportfile import Exported, read_exported
from agentcheckpoint.options import RunOptions
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.exporting import Import, Stored, read_pages, read_stored, stands
from agentcheckpoint.store.index import list_due, list_run
from agentcheckpoint.store.store import Store
from agentcheckpoint.store.whole import check_free, make_whole

File: TypeAlias = "str | os.PathLike[str] | TextIO"
"""A path, or a text file that is open."""


def export_run(run_id: str, file: File, /, *, store: Connectable = None, namespace: str = "default") -> None:
    """Writes a run to a file: its log, its results, its ledger. Blocking: on an event loop, ``asyncio.to_thread``.

    Nothing is changed; somebody may be at work on it: the file has it as it stood at one moment. It holds all that the
    run's steps were answered, in clear. A path is there whole or not at all, and readable by its owner alone.

    Args:
        run_id: the run's name.
        file: where to; a file that is open is left open.
        store, namespace: as in ``ac.run``.

    Raises:
        OSError: it cannot be written.
        RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    where = connect(store)
    attempt = Attempt(where, run_id, RunOptions(namespace=namespace))
    stored = where.run(read_stored(attempt.fence))
    with _written(file) as out:
        count = 0
        for line in _lines(attempt, where, stored):
            out.write(exported.written(line))
            count += 1
        out.write(exported.written(EndLine(end=count)))


def import_run(
    file: File, /, *, as_: str | None = None, store: Connectable = None, namespace: str | None = None
) -> str:
    """Makes the run that a file holds, whole or not at all. Blocking: on an event loop, use ``asyncio.to_thread``.

    It is the same run, moved: with its log, its results, its state and its ledger. Where both are in one store, what
    it cost is counted twice there; and if both go on, both buy what is missing.

    Args:
        file: what ``export_run`` has written.
        as_: the name of the run; by default the one that it had.
        store: where to, as in ``ac.run``.
        namespace: by default the one that it was in.

    Returns:
        The run's name.

    Raises:
        RunExists, RunDeleted: the name is taken.
        CheckpointCorrupt, CheckpointsLost: the file holds no whole run; the message names the line.
        SchemaTooNew: a newer version has written it.
        OSError: it cannot be read.
        InvalidName, CommitUnknown, StoreRefused, StoreUnavailable.
    """
    with _opened(file) as (text, name):
        found = read_exported(text, name)
        where = connect(store)
        return put(found, where, as_ or found.header.run, namespace or found.header.namespace)


def put(found: Exported, where: Store, run_id: str, namespace: str) -> str:
    """Makes the run in a store; returns its name. Raises what ``import_run`` raises of a store."""
    source = Attempt(None, found.header.run, RunOptions(namespace=found.header.namespace))
    target = Attempt(where, run_id, RunOptions(namespace=namespace))
    where.run(check_free(target.fence))
    made = Import(target.fence, found.stored, partial(_moved, found, source, target))
    where.run(make_whole(made.draft(), new_token))
    loaded = found.stored.loaded
    opened = max((entry.at for entry in found.entries if isinstance(entry, Opened)), default=found.entries[0].at)
    where.run(list_run(namespace, run_id, opened, loaded.due_ms or opened))
    if loaded.meta["state"] in ENDED:
        where.run(list_due(namespace, run_id, None))
    return run_id


def _moved(found: Exported, source: Attempt, target: Attempt) -> Iterator[tuple[str, str, bytes | None]]:
    """The lines and results as the target has them: under its name, through its chain of codecs."""
    for line, entry, data in found.results():
        raw = line.entry
        if raw.get("k") == "birth":
            raw = {**raw, "namespace": target.namespace, "run": target.run_id}
        if data is not None:
            data, payload = target.chain.encode(data, target.where(getattr(entry, "slot", ""), entry.id))
            raw = exported.with_payload(raw, payload)
        yield entry.id, exported.dense(raw), data


def _lines(attempt: Attempt, where: Store, stored: Stored) -> Iterator[Header | Line]:
    loaded = stored.loaded
    yield Header(namespace=attempt.namespace, run=attempt.run_id, meta=stands(loaded))
    pages, page = read_pages(attempt.fence, loaded), dict[str, bytes]()
    for entry, line in zip(loaded.entries, stored.lines, strict=True):
        payload, data = payload_of(entry), None
        if payload is not None:
            page = page or where.run(next(pages))
            data = attempt.chain.decode(
                page.pop(entry.id), payload, attempt.where(getattr(entry, "slot", ""), entry.id)
            )
        written = exported.entry_line(line, data)
        if payload is not None and data is not None:
            plain = Payload(size=len(data))
            written = written.model_copy(update={"entry": exported.with_payload(written.entry, plain)})
        yield written
    yield from (WasteLine(waste=json.loads(line)) for line in stored.waste.values())
    yield from (AnswerLine(wait=wait, answer=line.decode()) for wait, line in stored.answers.items())
    if stored.cancel is not None:
        yield CancelLine(cancel=stored.cancel.decode())


@contextmanager
def _written(file: File) -> Generator[TextIO]:
    if not isinstance(file, str | os.PathLike):
        yield file
        return
    path = Path(file)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", dir=path.parent, delete=False) as out:
        try:
            yield out  # type: ignore[misc]
            out.close()
            os.replace(out.name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(out.name)
            raise


@contextmanager
def _opened(file: File) -> Generator[tuple[TextIO, str]]:
    """A file that can be read twice, and what it is called."""
    if isinstance(file, str | os.PathLike):
        with open(file, encoding="utf-8", errors="surrogateescape", newline="\n") as text:
            yield text, os.fspath(file)
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as copy:
        for line in file:
            copy.write(line)
        yield copy, str(getattr(file, "name", "the file"))

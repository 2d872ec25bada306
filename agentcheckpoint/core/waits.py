"""Waits: what came of one, which of a run's are open, and what an answer has to look like. Pure."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from agentcheckpoint.core import ids
from agentcheckpoint.core.codec import UNANNOTATED, ResultType, result_type
from agentcheckpoint.core.models import Done, LogEntry, Natural, Record, Waiting
from agentcheckpoint.core.roundtrip import first_error, name_of, told
from agentcheckpoint.errors import CheckpointCorrupt, ResultNotStorable, RunMisuse

T = TypeVar("T")

LONGEST_PROMPT = 10_000
"""Characters of a prompt."""
_ANY = (UNANNOTATED, Any, object)


class Given(Record):
    """What came of a wait. The first that is stored under the wait's id counts, whoever wrote it."""

    what: Literal["answer", "time", "withdrawn"]
    """Somebody answered; its time was up; or another wait has taken its place."""
    answer: str | None = None
    """The answer as JSON."""
    by: str | None = None
    at: Natural = 0
    """When, milliseconds since the epoch on the store's clock."""


def parse_given(data: bytes, run_id: str, slot: str) -> Given:
    """Reads what came of a wait.

    Raises:
        CheckpointCorrupt: it is not what this library writes.
    """
    try:
        return Given.model_validate_json(data)
    except ValidationError as exc:
        path, why = first_error(exc)
        raise CheckpointCorrupt(
            f"run {run_id!r}, wait {slot!r}: what came of it cannot be read: at ${path}: {why}. Nothing "
            "was overwritten.",
            run_id=run_id,
            step=slot,
        ) from None


class Waits:
    """The waits of a run. It is told the log's entries in their order."""

    def __init__(self, entries: Iterable[LogEntry] = ()) -> None:
        self._last: dict[str, Waiting] = {}
        self._done: set[str] = set()
        self._met: set[str] = set()
        self._beginning: set[Future[None]] = set()
        for entry in entries:
            self.tell(entry)

    def tell(self, entry: LogEntry) -> None:
        """What the log says next."""
        if isinstance(entry, Done):
            self._done.add(entry.slot)
        elif isinstance(entry, Waiting):
            self._last[entry.slot] = entry
            self._done.discard(entry.slot)

    @contextmanager
    def beginning(self) -> Generator[None]:
        """A wait is being begun meanwhile."""
        begun: Future[None] = Future()
        self._beginning.add(begun)
        try:
            yield
        finally:
            self._beginning.discard(begun)
            begun.set_result(None)

    def under_way(self) -> list[Future[None]]:
        """One for each wait that is being begun now; done when it is."""
        return list(self._beginning)

    def meet(self, entry: Waiting) -> None:
        """The running code waits for it."""
        self._met.add(entry.id)

    def last(self, slot: str) -> Waiting | None:
        """The slot's last wait, open or not."""
        return self._last.get(slot)

    def pending(self, slot: str) -> Waiting | None:
        """The slot's wait, if it is open."""
        return None if slot in self._done else self._last.get(slot)

    def open(self) -> list[Waiting]:
        """Those that nothing came of, in the order in which they were begun."""
        return [
            entry
            for slot, entry in list(self._last.items())
            if slot not in self._done and not ids.is_inside(slot, self._done)
        ]

    def next_ms(self, now_ms: int) -> int | None:
        """When the first of the open waits that the running code has met is over at the latest."""
        times = [entry.until for entry in self.open() if entry.id in self._met and entry.until is not None]
        return min((until for until in times if until > now_ms), default=None)


def choose(name: str, waits: Iterable[Waiting]) -> Waiting | None:
    """The wait that somebody means by a name: its slot; or, if there is one such alone, the last part of it."""
    found = [entry for entry in waits if entry.slot == name]
    found = found or [entry for entry in waits if _names(entry.slot, name)]
    return found[0] if len(found) == 1 else None


def _names(slot: str, name: str) -> bool:
    """Whether it is the wait's own name or key, or those of the step that it is for."""
    parts = [ids.split_slot(part)[0] for part in _parts(slot)]
    own, outer = parts[-1], parts[-2] if len(parts) > 1 else ""
    return name in (own, own.partition("[")[0], outer, outer.partition("[")[0])


def _parts(slot: str) -> list[str]:
    """The slot's parts, from the outermost in; a key may hold a slash."""
    parts, start, depth = list[str](), 0, 0
    for i, char in enumerate(slot):
        depth += (char == "[") - (char == "]")
        if char == "/" and depth == 0:
            parts.append(slot[start:i])
            start = i + 1
    return [*parts, slot[start:]]


class Form(Generic[T]):
    """What an answer has to look like: a type, and its JSON schema.

    Raises:
        RunMisuse: values of that type cannot be stored, or cannot be given in JSON.
    """

    def __init__(self, returns: Any) -> None:
        self.type: ResultType[Any] = result_type(returns)
        self._adapter: TypeAdapter[Any] | None = None if returns in _ANY else TypeAdapter(returns)
        try:
            self.schema = {} if self._adapter is None else self._adapter.json_schema()
        except PydanticInvalidForJsonSchema as exc:
            raise RunMisuse(
                f"nobody can answer by a {name_of(returns)}: it has no JSON schema ({told(exc).split('. ')[0]}). Wait "
                "for a type that pydantic builds from JSON."
            ) from exc

    def text(self) -> str:
        """The JSON schema, as it is stored."""
        return json.dumps(self.schema, ensure_ascii=False)

    def take(self, answer: str) -> tuple[bytes, T]:
        """The answer in type, and its result bytes.

        Raises:
            ValueError: it is none; the message says why.
        """
        try:
            value = json.loads(answer) if self._adapter is None else self._adapter.validate_json(answer)
            return self.type.encode(value)
        except ValidationError as exc:
            path, why = first_error(exc)
            raise ValueError(f"at ${path}: {why}") from exc
        except ResultNotStorable as exc:
            raise ValueError(str(exc)) from exc
        except Exception as exc:  # a user's validator may raise anything
            raise ValueError(told(exc)) from exc

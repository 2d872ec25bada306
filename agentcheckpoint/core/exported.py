"""The file that a run is exported to: JSON lines, one for each entry of its log, with its result as text. Pure."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import Field, TypeAdapter, ValidationError

from agentcheckpoint.core.models import LOG_ENTRY, SCHEMA, LedgerEntry, LogEntry, Payload, Record, payload_of

VERSION = 1
"""Of the file. What an older version would misread raises it."""


class Damaged(Exception):
    """A line is not what is written there; the text says why."""


class TooNew(Exception):
    """A newer version of this library has written it."""


class Header(Record):
    """The first line: which run, and how it stood."""

    agentcheckpoint: Literal["run"] = "run"
    version: Annotated[int, Field(ge=1)] = VERSION
    namespace: str
    run: str
    meta: dict[str, str]


class EntryLine(Record):
    """An entry of the log, and what is kept under its id: as text, or as base64 if it is none."""

    entry: dict[str, Any]
    text: str | None = None
    base64: str | None = None


class WasteLine(Record):
    """What was booked beside the log."""

    waste: dict[str, Any]


class AnswerLine(Record):
    """What came of a wait."""

    wait: str
    answer: str


class CancelLine(Record):
    """Somebody has asked for the run's end."""

    cancel: str


class EndLine(Record):
    """The last line: how many stand before it."""

    end: int


Line: TypeAlias = EntryLine | WasteLine | AnswerLine | CancelLine | EndLine

_LINE: TypeAdapter[Line] = TypeAdapter(Line)
_PAYLOAD = TypeAdapter(Payload)


def written(line: Header | Line) -> str:
    """The line as it stands in the file."""
    return dense(line.model_dump(exclude_none=True, mode="json")) + "\n"


def dense(value: object) -> str:
    """JSON in one line, without a space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def entry_line(stored: bytes, data: bytes | None) -> EntryLine:
    """An entry as it is stored, with the fields that this version does not know; and its result."""
    entry = json.loads(stored)
    if data is None:
        return EntryLine(entry=entry)
    try:
        return EntryLine(entry=entry, text=data.decode())
    except UnicodeDecodeError:
        return EntryLine(entry=entry, base64=base64.b64encode(data).decode())


def read_header(text: str) -> Header:
    """The first line. Raises ``Damaged``, ``TooNew``."""
    try:
        header = Header.model_validate_json(text)
    except ValidationError as exc:
        raise Damaged(f"it is not the first line of an exported run: {_first(exc)}") from None
    if header.version > VERSION:
        raise TooNew(f"the file is of version {header.version}, and this version of agentcheckpoint knows {VERSION}")
    return header


def read_line(text: str) -> Line:
    """Any other line. Raises ``Damaged``."""
    try:
        return _LINE.validate_json(text)
    except ValidationError as exc:
        is_json = exc.errors()[0]["type"] not in ("json_invalid", "string_unicode")
        raise Damaged("it is none that a run has" if is_json else "it is not JSON") from None


def entry_of(line: EntryLine) -> tuple[LogEntry, bytes | None]:
    """A line's entry and result. Raises ``Damaged``, ``TooNew``."""
    version = line.entry.get("v", SCHEMA)
    if isinstance(version, int) and version > SCHEMA:
        raise TooNew(f"it is of schema {version}, and this version of agentcheckpoint knows schema {SCHEMA}")
    try:
        entry = LOG_ENTRY.validate_json(json.dumps(line.entry))
    except ValidationError as exc:
        raise Damaged(_first(exc)) from None
    data = _data(line)
    payload = payload_of(entry)
    if (payload is None) != (data is None):
        raise Damaged("it has no result" if data is None else "it has a result, and names none")
    if payload is not None and data is not None and payload.size != len(data):
        raise Damaged(f"its result has {len(data)} bytes, and {payload.size} are recorded")
    return entry, data


def waste_of(line: WasteLine) -> LedgerEntry:
    """What was booked beside the log. Raises ``Damaged``."""
    try:
        return LedgerEntry.model_validate_json(json.dumps(line.waste))
    except ValidationError as exc:
        raise Damaged(_first(exc)) from None


def with_payload(entry: dict[str, Any], payload: Payload) -> dict[str, Any]:
    """The entry, which describes its bytes by that."""
    name = next(name for name in ("payload", "output", "input") if name in entry)
    return {**entry, name: _PAYLOAD.dump_python(payload, exclude_defaults=True)}


def _data(line: EntryLine) -> bytes | None:
    if line.base64 is None:
        return None if line.text is None else line.text.encode()
    try:
        return base64.b64decode(line.base64, validate=True)
    except ValueError:
        raise Damaged("its result is no base64") from None


def _first(exc: ValidationError) -> str:
    error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in cast("tuple[Any, ...]", error["loc"]))
    return f"{where}: {error['msg']}" if where else error["msg"]

"""Any input as one canonical text, to take a digest of, and as one short line for people."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from json.encoder import encode_basestring
from pathlib import PurePath
from typing import Any, TypeAlias, cast
from uuid import UUID

from pydantic import AnyUrl, BaseModel, Secret, SecretBytes, SecretStr

MAX_DEPTH = 64
MAX_CONTAINERS = 1_000_000
MAX_PREVIEW = 80


class TooLarge(Exception):
    """The value holds more containers than are compared, or its references to itself multiply them."""


def written(value: object, shown: str | None = None) -> tuple[str | None, str]:
    """Returns the value's ``canonical`` text, and what to show of it.

    Args:
        value: what is written.
        shown: what to show of it; ``None``: its ``preview``.

    Returns:
        The text is ``None`` if the value is not compared: it is too large, or no data, as a client, a lock, a function
        or a generator is none.
    """
    kind = type(value)
    if (leaf := _leaf(kind)) is not None:
        return leaf[0](value), one_line(leaf[1](value)) if shown is None else shown
    shown = preview(value) if shown is None else shown
    try:
        return canonical(value) if _is_container(kind) else None, shown
    except TooLarge:
        return None, one_line(f"<{qualified(kind)}: too large, not compared>")


def canonical(value: object) -> str:
    """Returns the value as text: JSON with sorted keys, and ``!`` marks where JSON would take different things for one.

    Lists and tuples are the same. What is not comparable counts as its type, and so does what lies deeper than 64
    levels. Of the caller's classes nothing is called: no ``__repr__``, ``__eq__``, ``__iter__``.

    Raises:
        TooLarge: it holds more than a million containers.
    """
    leaf = _leaf(type(value))
    return leaf[0](value) if leaf is not None else _Walk().text(value)


def preview(value: object) -> str:
    """Returns the start of the value, in one line of at most 80 characters; secrets as asterisks."""
    if (leaf := _leaf(type(value))) is not None:
        return one_line(leaf[1](value))
    text = ""
    for piece in _pieces(value):  # lazily: of a large or circular value only the start is looked at
        text += piece
        if len(text) > MAX_PREVIEW:
            break
    return one_line(text)


def one_line(text: str, most: int = MAX_PREVIEW) -> str:
    """Returns at most 80 characters of the text, or so many, with an escape for each that does not print."""
    line = text[: most + 1]
    if not line.isprintable():
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return line if len(line) <= most else line[: most - 1] + "…"


def qualified(kind: type[Any]) -> str:
    """Returns a type's name with its module; without for builtins."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


# -- values without parts: how each is written, and how it is shown ------------------------------------------------


def _digits(value: int) -> str:
    return int.__repr__(value) if int.bit_length(value) <= 4096 else f"{value:#x}"  # long decimals are refused


def _hashed(value: Any) -> str:
    data = memoryview(value).tobytes()
    return f"!bytes {len(data)}:{hashlib.sha256(data).hexdigest()}"


def _sized(value: Any) -> str:
    return f"<{memoryview(value).nbytes} bytes>"


def _marked(mark: str, text: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: f"!{mark} {encode_basestring(text(value))}"


def _plain(value: Any) -> str:
    return str.__str__(value)


def _span(value: timedelta) -> str:
    return f"{value.days}d {value.seconds}s {value.microseconds}us"


def _range(value: range) -> str:
    return f"range({value.start}, {value.stop}, {value.step})"


_Text: TypeAlias = Callable[[Any], str]
_LEAVES: dict[type[Any], tuple[_Text, _Text]] = {
    type(None): (lambda _: "null", lambda _: "None"),
    bool: (lambda value: "true" if value else "false", lambda value: "True" if value else "False"),
    int: (_digits, _digits),
    float: (float.__repr__, float.__repr__),
    str: (encode_basestring, lambda value: repr(_plain(value)[: MAX_PREVIEW + 1])),
    datetime: (_marked("datetime", datetime.isoformat), datetime.isoformat),
    date: (_marked("date", date.isoformat), date.isoformat),
    time: (_marked("time", time.isoformat), time.isoformat),
    timedelta: (_marked("timedelta", _span), _span),
    Decimal: (_marked("decimal", Decimal.__str__), Decimal.__str__),
    UUID: (_marked("uuid", UUID.__str__), UUID.__str__),
    PurePath: (_marked("path", PurePath.__str__), lambda value: repr(PurePath.__str__(value)[: MAX_PREVIEW + 1])),
    AnyUrl: (_marked("url", AnyUrl.__str__), AnyUrl.__str__),
    range: (_marked("range", _range), _range),
    type: (_marked("class", qualified), lambda value: f"<class {qualified(value)}>"),
    bytes: (_hashed, _sized),
    bytearray: (_hashed, _sized),
    memoryview: (_hashed, _sized),
}


def _leaf(kind: type[Any]) -> tuple[_Text, _Text] | None:
    if kind in _LEAVES:
        return _LEAVES[kind]
    if kind is dict or kind is list:  # most of what is no leaf
        return None
    if issubclass(kind, Enum) or dataclasses.is_dataclass(kind):  # before the str or int that it may be as well
        return None
    return next((_LEAVES[base] for base in kind.__mro__ if base in _LEAVES), None)


# -- values with parts ----------------------------------------------------------------------------------------------

_SECRET = (SecretStr, SecretBytes, Secret)
_ROWS = (list, tuple, set, frozenset, deque)
_CONTAINERS = (dict, *_ROWS, Enum, *_SECRET, BaseModel)


def _is_container(kind: type[Any]) -> bool:
    return issubclass(kind, _CONTAINERS) or dataclasses.is_dataclass(kind)


def _fields(value: object) -> list[tuple[str, object, bool]] | None:
    """Name, value, and whether to show it; of dataclasses only the fields that count when they are compared."""
    kind = type(value)
    if issubclass(kind, BaseModel):
        held, extra = vars(value), cast(BaseModel, value).model_extra
        found = [(name, held[name], info.repr) for name, info in kind.model_fields.items() if name in held]
        return found + [(name, item, True) for name, item in (extra or {}).items()]
    if dataclasses.is_dataclass(kind):
        fields = [field for field in dataclasses.fields(kind) if field.compare]
        return [(field.name, getattr(value, field.name, None), field.repr) for field in fields]
    return None


def _pairs(value: object) -> list[tuple[object, object]]:
    return list(cast(Any, dict).items(value))


def _items(value: object) -> list[object]:
    """The elements, by the builtin's own iteration, whatever a subclass makes of it."""
    rows: Any = next(base for base in _ROWS if issubclass(type(value), base))
    return list(cast(Iterator[object], rows.__iter__(value)))


class _Walk:
    """One way through a value, remembering where it is."""

    def __init__(self) -> None:
        self._above: list[int] = []
        self._containers = 0

    def text(self, value: object) -> str:
        kind = type(value)
        if (leaf := _leaf(kind)) is not None:
            return leaf[0](value)
        if not _is_container(kind):
            return f"!type {qualified(kind)}"
        if id(value) in self._above:
            return f"!circular {len(self._above) - self._above.index(id(value))}"
        self._containers += 1
        if self._containers > MAX_CONTAINERS:
            raise TooLarge
        if len(self._above) >= MAX_DEPTH:
            return f"!deeper {qualified(kind)}"
        self._above.append(id(value))
        text = self._container(kind, value)
        self._above.pop()
        return text

    def _container(self, kind: type[object], value: Any) -> str:
        if kind is dict:
            return self._mapping(_pairs(value))
        if kind is list:
            return "[" + ",".join(map(self.text, list(value))) + "]"
        if issubclass(kind, Enum):
            name: object = value._name_
            return f"!{qualified(kind)}." + (name if isinstance(name, str) else self.text(value._value_))
        if issubclass(kind, _SECRET):
            return f"!secret {self.text(value.get_secret_value())}"
        if (fields := _fields(value)) is not None:
            return f"!{qualified(kind)}" + self._mapping((name, item) for name, item, _ in fields)
        if issubclass(kind, dict):
            return self._mapping(_pairs(value))
        texts = [self.text(item) for item in _items(value)]
        if issubclass(kind, set | frozenset):
            return "!set[" + ",".join(sorted(texts)) + "]"
        return "[" + ",".join(texts) + "]"

    def _mapping(self, items: Iterable[tuple[object, object]]) -> str:
        return "{" + ",".join(sorted(f"{self.text(key)}:{self.text(item)}" for key, item in items)) + "}"


def _pieces(value: object) -> Iterator[str]:
    """The preview, bit by bit; each level yields a character before it goes deeper."""
    kind = type(value)
    if (leaf := _leaf(kind)) is not None:
        yield leaf[1](value)
    elif issubclass(kind, Enum):
        yield f"{kind.__name__}.{cast(Enum, value)._name_}"
    elif issubclass(kind, _SECRET):
        yield "'**********'"
    elif (fields := _fields(value)) is not None:
        yield f"{kind.__name__}("
        yield from _joined([(f"{name}=", item) for name, item, shown in fields if shown])
        yield ")"
    elif issubclass(kind, dict):
        yield "{"
        yield from _joined((preview(key) + ": ", item) for key, item in _pairs(value))
        yield "}"
    elif _is_container(kind):
        unordered = issubclass(kind, set | frozenset)
        yield "{" if unordered else "["
        items = _items(value)
        yield from _joined(("", item) for item in (_ordered(items) if unordered else items))
        yield "}" if unordered else "]"
    else:
        yield f"<{qualified(kind)}: not compared>"


def _joined(items: Iterable[tuple[str, object]]) -> Iterator[str]:
    comma = ""
    for label, item in items:
        yield comma + label
        yield from _pieces(item)
        comma = ", "


def _ordered(items: list[object]) -> list[object]:
    """The elements of a set in an order that is the same in every process."""
    try:
        return sorted(items, key=canonical)
    except TooLarge:
        return items

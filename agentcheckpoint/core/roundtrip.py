"""Compares what was sent into a store with what came back, and says where and why they differ."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime, time
from decimal import Decimal
from itertools import count
from typing import Any, TypeAlias, cast

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError
from pydantic_core import from_json, to_json

MAX_DEPTH = 64

Trouble: TypeAlias = tuple[str, str]
"""Where in a value (a path without its ``$``), and what is wrong there."""

_SCALARS = frozenset({str, int, float, bool, type(None)})
_PAYLOAD = re.compile(r"input_value=.*?, (?=input_type=)", re.DOTALL)


def is_plain(value: object, depth: int = 1) -> bool:
    """Whether JSON holds the value exactly: types, keys, depth."""
    kind = type(value)
    if kind is list:
        items: Any = value
    elif kind is dict:
        items = cast(dict[object, object], value).values()
        for key in cast(dict[object, object], value):
            if type(key) is not str:
                return False
    else:
        return kind in _SCALARS
    if depth > MAX_DEPTH:
        return False
    for item in items:  # noqa: SIM110 (this runs for every result: all() takes twice as long)
        if type(item) not in _SCALARS and not is_plain(item, depth + 1):
            return False
    return True


def _parts(value: object) -> dict[Any, Any] | None:
    """What a value is made of, by field name, index, or (type, key); ``None``: it has no parts."""
    if isinstance(value, dict):
        return {_own(key): item for key, item in cast(dict[object, Any], value).items()}
    if isinstance(value, set | frozenset):
        return {_own(item): item for item in cast(set[object], value)}
    if isinstance(value, list | tuple | deque):
        names: Iterable[Any] = getattr(cast(object, value), "_fields", count())
        return dict(zip(names, cast(list[Any], value), strict=False))
    if isinstance(value, BaseModel):
        held = vars(value)
        return {name: held[name] for name in type(value).model_fields if name in held} | (value.model_extra or {})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return None


def _own(key: object) -> tuple[type[object], object]:
    """Keeps equal keys of different types apart, and takes all nan for one."""
    return type(key), "nan" if key != key else key


def difference(sent: object, back: object, depth: int = 1) -> Trouble | None:
    """The first place where what comes back is not what was sent."""
    kind = type(sent)
    if kind is not type(back):
        return "", f"{name_of(kind)} would come back as {name_of(type(back))}"
    if kind in _SCALARS:
        same = sent == back or (sent != sent and back != back)
        return None if same else ("", f"{name_of(kind)} would come back altered")
    parts = _parts(sent)
    if parts is None:
        return None if _same(sent, back) else ("", _why_not_same(sent))
    if depth > MAX_DEPTH:
        return "", f"it is nested deeper than {MAX_DEPTH} levels"
    others = _parts(back) or {}
    for part, item in parts.items():
        if part not in others:
            return _step(part), "would not come back"
        other = others[part]
        if type(item) in _SCALARS and type(item) is type(other) and item == other:
            continue  # most of a long list, without a call each
        if (found := difference(item, other, depth + 1)) is not None:
            return _step(part) + found[0], found[1]
    added = next((part for part in others if part not in parts), None)
    return None if added is None else (_step(added), "would come back though it was not there")


def _same(sent: Any, back: Any) -> bool:
    try:
        if isinstance(sent, Decimal):
            return bool(sent.as_tuple() == back.as_tuple())
        if isinstance(sent, datetime | time) and sent.tzinfo is not None:
            # Only a zone of one fixed offset survives: of any other, the rule for other days would be lost.
            return bool(sent == back and sent.tzinfo.utcoffset(None) == back.utcoffset())
        return bool(sent == back)
    except Exception:  # a user's __eq__
        return False


def _why_not_same(sent: object) -> str:
    name = name_of(type(sent))
    if isinstance(sent, SecretStr | SecretBytes | Secret):
        return f"{name} is stored as asterisks: leave it out, or give its field a serializer that reveals it"
    if isinstance(sent, datetime | time) and sent.tzinfo is not None:
        return f"the time zone of {name} would come back as a fixed offset: convert it to UTC"
    return f"{name} would come back altered, or does not compare equal to itself"


def dropped(given: object, taken: object, depth: int = 1) -> Trouble | None:
    """The first key that validation left out without a word, as it does for a TypedDict's unknown keys."""
    if given is taken or depth > MAX_DEPTH:
        return None
    pairs: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(given, dict) and isinstance(taken, dict):
        old, new = cast(dict[object, Any], given), cast(dict[object, Any], taken)
        lost = next((key for key in old if key not in new), None)
        if len(new) < len(old) and lost is not None:
            return _step(_own(lost)), "it is not part of the announced type and would be lost"
        pairs = ((_own(key), item, new[key]) for key, item in old.items() if key in new)
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        pairs = zip(count(), cast(list[Any], given), cast(list[Any], taken), strict=False)
    for part, item, other in pairs:
        if (found := dropped(item, other, depth + 1)) is not None:
            return _step(part) + found[0], found[1]
    return None


def blame(value: object, plain: bool) -> Trouble | None:
    """Searches a value for what cannot be stored; slow, and only called when something cannot.

    Args:
        value: what could not be stored.
        plain: whether only plain JSON is allowed.
    """
    try:
        return _search(value, plain, ())
    except Exception:  # a user's property or comparison; what it hides is reported without a path
        return None


def _search(value: object, plain: bool, above: tuple[int, ...]) -> Trouble | None:
    if id(value) in above:
        return "", "it is a circular reference"
    if isinstance(value, BaseModel) and not plain and _unwritable(value) is None:
        return None
    kind = type(value)
    if plain and kind not in _SCALARS and kind is not list and kind is not dict:
        return "", f"{name_of(kind)} is not plain JSON"
    if plain and kind is dict:
        for key in cast(dict[object, Any], value):
            if type(key) is not str:
                return _step(_own(key)), f"a key is of type {name_of(type(key))}, and JSON has only str keys"
    parts = _parts(value)
    if parts is not None and len(above) >= MAX_DEPTH:
        return "", f"it is nested deeper than {MAX_DEPTH} levels"
    for part, item in (parts or {}).items():
        if (found := _search(item, plain, (*above, id(value)))) is not None:
            return _step(part) + found[0], found[1]
    return _unwritable(value) if not parts or isinstance(value, BaseModel) else None


def _unwritable(value: object) -> Trouble | None:
    try:
        from_json(to_json(value, bytes_mode="base64"))
    except Exception as exc:
        return "", f"{name_of(type(value))} cannot be written: {told(exc)}"
    return None


def first_error(exc: ValidationError) -> Trouble:
    """The first thing that pydantic has against a value; never the value itself."""
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    path = "".join(_step(part) for part in errors[0]["loc"] if part != "[key]")
    return path, errors[0]["msg"] + more


def told(exc: BaseException) -> str:
    """An exception in one line, without the values that pydantic quotes: they may be secret."""
    text = " ".join(_PAYLOAD.sub("", str(exc)).split())
    return f"{type(exc).__name__}: {text[:300]}"


def name_of(thing: object) -> str:
    """The qualified name of a type or function, or of the type of anything else."""
    named: Any = thing if hasattr(thing, "__qualname__") else type(thing)
    module = getattr(named, "__module__", None)
    return f"{named.__qualname__}" if module in (None, "builtins") else f"{module}.{named.__qualname__}"


def _step(part: object) -> str:
    """One step of a path: ``.name``, ``[0]``, ``['any key']``."""
    key = cast(tuple[type, object], part)[1] if isinstance(part, tuple) else part
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    if isinstance(key, str) and len(key) > 40:
        key = key[:40] + "…"
    return f"[{key!r}]" if type(key) in _SCALARS else f"[<{name_of(type(key))}>]"

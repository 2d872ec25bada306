"""The fingerprint of a step's inputs: a digest of the whole and of each argument, and what to show of them."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias, cast

from agentcheckpoint.core.canonical import MAX_PREVIEW, canonical, one_line, preview, qualified, written
from agentcheckpoint.core.functions import EMPTY, looks_of
from agentcheckpoint.core.models import Argument, Inputs
from agentcheckpoint.errors import RunMisuse

UNCOUNTED = frozenset({"stream_options", "metadata", "user", "safety_identifier", "prompt_cache_key", "service_tier"})
"""Fields of a model call's body that do not change what is asked."""

TAIL = 8
"""So many of a conversation's last messages are kept one by one at most, the others as one: what is stored of a
conversation that grows by a message per call grows with the number of calls, not with its square."""

_CONVERSATIONS = frozenset({"messages", "input"})
_Row: TypeAlias = tuple[str, object, str | None]
"""An argument: its name and value, and what to show of it, if that is no preview of the value."""

_START = 48
"""Characters that a preview of a conversation's start may take: each call has one."""
_ABSENT = "—"
_LATER = " (differs further on)"
_ELEMENT = re.compile(r"(.+)\[(:?)(\d+)\]")


def function_inputs(
    fn: Callable[..., object], args: Collection[Any], kwargs: Mapping[str, Any], ignore: Collection[str] = ()
) -> Inputs:
    """Takes the fingerprint of a call of a function.

    Arguments are bound to the signature, with its defaults: how they are passed makes no difference. What a method is
    bound to is not part of it. An argument that is no data (a client, a lock, a function, a generator) has no digest,
    and counts as its type.

    Args:
        fn: what is called. Without a usable signature its positional arguments are ``arg0``, ``arg1``, ...
        args: its positional arguments.
        kwargs: its keyword arguments.
        ignore: names of arguments that do not count.

    Raises:
        RunMisuse: ``ignore`` has a name that the function does not take.
    """
    while isinstance(fn, functools.partial):  # its signature hides what is bound by position
        args, kwargs, fn = (*fn.args, *args), {**fn.keywords, **kwargs}, cast(Callable[..., object], fn.func)
    if isinstance(ignore, str):
        raise RunMisuse(f"ignore={ignore!r} is a string; it takes a collection of names: ignore=({ignore!r},).")
    looks = looks_of(fn)
    rows = None
    if looks.plain is not None and len(args) <= looks.by_place:
        rows = _plainly_bound(looks.plain, args, kwargs)
    if rows is None:
        rows = _bound(looks.signature, args, kwargs, ignore)
    if rows is None:
        rows = [(f"arg{i}", value, None) for i, value in enumerate(args)]
        rows += [(name, value, None) for name, value in kwargs.items()]
    elif ignore and looks.signature is not None:
        _check_ignored(fn, looks.signature, ignore)
    return _inputs([row for row in rows if row[0] not in ignore] if ignore else rows)


def request_inputs(endpoint: str, body: Mapping[str, object]) -> Inputs:
    """Takes the fingerprint of a model call: the endpoint and the body, less what does not change what is asked.

    Args:
        endpoint: the kind of call, such as ``chat``.
        body: the request's JSON.
    """
    rows: list[_Row] = [("endpoint", endpoint, None)]
    for name, value in body.items():
        if name in UNCOUNTED:
            continue
        if name in _CONVERSATIONS and issubclass(type(value), list) and value:
            rows.extend(_conversation(name, cast(list[object], value)))
        else:
            rows.append((name, value, None))
    return _inputs(rows)


def difference(recorded: Inputs, came: Inputs) -> list[tuple[str, str, str]]:
    """Says in what two fingerprints differ.

    Returns:
        Name, recorded preview and new preview of each argument that differs; ``—`` stands for one that is not there.
        Messages that one side keeps one by one and the other as one are left out, as they cannot be compared; unless
        it must be they that differ.
    """
    old = {argument.name: argument for argument in recorded.arguments}
    new = {argument.name: argument for argument in came.arguments}
    rows: list[tuple[str, str, str]] = []
    covered: list[tuple[str, str, str]] = []
    for name in {**old, **new}:
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            row = (name, was.preview if was else _ABSENT, now.preview if now else _ABSENT)
            (covered if _is_covered(name, new if now is None else old) else rows).append(row)
        elif was.preview != now.preview and (was.digest != now.digest or not was.digest):
            rows.append((name, was.preview, now.preview))
        elif was.digest != now.digest:
            rows.append((name, was.preview + _LATER, now.preview + _LATER))
    return rows or covered


def _check_ignored(fn: Callable[..., object], signature: inspect.Signature, ignore: Collection[str]) -> None:
    unknown = set(ignore) - set(signature.parameters)
    if unknown and all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values()):
        raise RunMisuse(
            f"ignore= names {', '.join(map(repr, sorted(unknown)))}, and {getattr(fn, '__qualname__', 'it')} takes no "
            f"such argument; its parameters are: {', '.join(signature.parameters) or 'none'}."
        )


def _plainly_bound(plain: Mapping[str, object], args: Collection[Any], kwargs: Mapping[str, Any]) -> list[_Row] | None:
    """What ``_bound`` says, in a fraction of its time, where each parameter may be given by name."""
    rows: list[_Row] = [(name, value, None) for name, value in zip(plain, args, strict=False)]
    named = 0
    for name in islice(plain, len(rows), None):
        value = kwargs.get(name, EMPTY)
        named += value is not EMPTY
        if value is EMPTY and (value := plain[name]) is EMPTY:
            return None
        rows.append((name, value, None))
    return rows if named == len(kwargs) else None


def _bound(
    signature: inspect.Signature | None, args: Collection[Any], kwargs: Mapping[str, Any], ignore: Collection[str]
) -> list[_Row] | None:
    """The arguments in the signature's order, its defaults among them, ``*args`` and ``**kwargs`` one by one, without
    those of ignored parameters; ``None``: a decorator made it untrue; or the call is wrong, and will say so.
    """
    try:
        bound = signature.bind(*args, **kwargs) if signature is not None else None
    except TypeError:
        bound = None
    if signature is None or bound is None:
        return None
    bound.apply_defaults()
    parameters, rows = signature.parameters, list[_Row]()
    for name, value in bound.arguments.items():
        kind = parameters[name].kind
        if name in ignore:
            continue
        if kind is inspect.Parameter.VAR_POSITIONAL:
            rows += [(f"{name}[{i}]", item, None) for i, item in enumerate(value)]
        elif kind is inspect.Parameter.VAR_KEYWORD:
            # A positional-only parameter leaves its name free for a keyword.
            rows += [(f"{name}[{key!r}]" if key in parameters else key, item, None) for key, item in value.items()]
        else:
            rows.append((name, value, None))
    return rows


def _inputs(rows: Iterable[_Row]) -> Inputs:
    """The fingerprint of arguments."""
    arguments: list[Argument] = []
    marks: list[str] = []
    for name, value, given in rows:
        text, shown = written(value, given)
        digest = _digest(f"!type {qualified(type(value))}" if text is None else text)
        label, mark = _named(name)
        arguments.append(Argument(label, "" if text is None else digest[:16], shown))
        marks.append(mark + digest)
    return Inputs(digest=_digest("\n".join(sorted(marks)))[:32], arguments=tuple(arguments))


@functools.lru_cache(maxsize=1024, typed=True)  # an enum member may equal a name
def _named(name: str) -> tuple[str, str]:
    """An argument's name as it is shown, and what stands before its digest."""
    return one_line(name), f"{canonical(name)}:"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _conversation(name: str, messages: list[object]) -> Iterator[_Row]:
    before = max(_answered(messages), len(messages) - TAIL)
    if before:
        start = f"{before} message{'s' * (before > 1)}, the first {_spoken(messages[0])}"
        yield f"{name}[:{before}]", messages[:before], one_line(start, _START)
    for i in range(before, len(messages)):
        yield f"{name}[{i}]", messages[i], _spoken(messages[i])


def _answered(messages: list[object]) -> int:
    """How many of a conversation's messages stood in the request before this one, as far as who made them tells: the
    last that a model made are its answer to that, and they and what follows are new.
    """
    new = len(messages)
    while new and not _is_answer(messages[new - 1]):
        new -= 1
    while new and _is_answer(messages[new - 1]):
        new -= 1
    return new


def _is_answer(message: object) -> bool:
    """Whether a model made it: in the Responses API what it did, such as a call of a tool, has a type and no role."""
    if not issubclass(type(message), dict):
        return False
    fields = cast(dict[str, object], message)
    if (role := fields.get("role")) is not None:
        return role == "assistant"
    kind = fields.get("type")
    return isinstance(kind, str) and not kind.endswith("_output")


def _spoken(message: object) -> str:
    """Who says what, as far as it fits a line."""
    fields = cast(dict[str, object], message) if issubclass(type(message), dict) else {}
    speaker, said = fields.get("role"), fields.get("content")
    if isinstance(said, list):
        parts = [cast(dict[str, object], part) for part in cast(list[object], said) if isinstance(part, dict)]
        said = next((part["text"] for part in parts if "text" in part), None)
    if isinstance(speaker, str) and isinstance(said, str):
        return one_line(f"{speaker}: {said[:MAX_PREVIEW]}")
    return preview(message)


def _is_covered(name: str, other: Mapping[str, Argument]) -> bool:
    """Whether the other side has this message too, or these messages, but not by themselves."""
    if (own := _ELEMENT.fullmatch(name)) is None:
        return False
    theirs = [found for found in map(_ELEMENT.fullmatch, other) if found is not None and found[1] == own[1]]
    if own[2]:
        return bool(theirs)
    return any(found[2] and int(found[3]) > int(own[3]) for found in theirs)

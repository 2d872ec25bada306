"""Typed values to bytes and back: what comes out of a round trip is what the caller gets, the first time too."""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import FunctionType
from typing import Any, Final, Generic, NewType, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from agentcheckpoint.core.roundtrip import Trouble, blame, difference, dropped, first_error, is_plain, name_of, told
from agentcheckpoint.core.unreadable import unreadable
from agentcheckpoint.errors import ResultNotStorable, RunMisuse

T = TypeVar("T")

MAX_BYTES = 32 * 2**20

UNANNOTATED: Final = inspect.Signature.empty
"""Stands for the return type of a function that announces none."""

_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_ONCE_ONLY: tuple[type[object], ...] = (Iterator, AsyncIterator, Awaitable)

_ANNOTATE = "Only plain JSON needs no type: annotate the function's return type, or pass returns=."
_LARGE = "Keep it elsewhere (a file, a bucket) and return where it is."
_MODEL = (
    "(In a pydantic model, bytes, nan and inf need ConfigDict(ser_json_bytes='base64', val_json_bytes='base64', "
    "ser_json_inf_nan='constants').)"
)


class ResultType(Generic[T]):
    """How the results of one type are stored; made by ``result_type``.

    Private attributes of models and cached properties are no part of a value: they are neither stored nor missed.
    """

    __slots__ = ("_adapter", "_name")

    def __init__(self, name: str, adapter: TypeAdapter[T] | None) -> None:
        self._name = name
        self._adapter = adapter

    def encode(self, value: object) -> tuple[bytes, T]:
        """Stores a result.

        Returns:
            The bytes, and the result as ``decode`` gives it: what the caller is to get the first time as well.

        Raises:
            ResultNotStorable: it would not come back as it is; the error names the path and carries the value.
        """
        try:
            sent = self._accept(value)
            data = self._dump(sent)
            if len(data) > MAX_BYTES:
                raise _refusal(value, ("", f"it takes {len(data):,} bytes, and {MAX_BYTES:,} are allowed"), _LARGE)
            back = self._load(data)
            if self._adapter is not None and (lost := difference(sent, back)) is not None:
                raise _refusal(value, lost, self._advice())
            return data, back
        except ResultNotStorable:
            raise
        except ValidationError as exc:
            path, why = first_error(exc)
            raise _refusal(value, (path, f"it could not be read back: {why}"), f"{self._advice()} {_MODEL}") from exc
        except Exception as exc:  # a user's validator may raise anything, and the value was paid for
            found = blame(value, plain=self._adapter is None) or ("", f"storing it raised {told(exc)}")
            raise _refusal(value, found, self._advice() + ("" if self._adapter is None else f" {_MODEL}")) from exc

    def decode(self, data: bytes) -> T:
        """Revives a stored result.

        Raises:
            CheckpointCorrupt: the bytes are no JSON, or do not fit the type.
        """
        if len(data) > MAX_BYTES:
            raise unreadable(self._name, f"it has {len(data):,} bytes, and {MAX_BYTES:,} are allowed")
        try:
            return self._load(data)
        except Exception as exc:
            raise unreadable(self._name, exc) from exc

    def _accept(self, value: object) -> object:
        """The value in the announced type."""
        if self._adapter is None:
            if is_plain(value):
                return value
            raise _refusal(value, blame(value, plain=True) or ("", "it is not plain JSON"), _ANNOTATE)
        if isinstance(value, _ONCE_ONLY):
            raise _refusal(value, ("", f"{name_of(type(value))} can be consumed only once"), "Return a list.")
        try:
            taken = self._adapter.validate_python(value)
        except ValidationError as exc:
            raise _refusal(value, first_error(exc), self._advice()) from exc
        if (lost := dropped(value, taken)) is not None:
            raise _refusal(value, lost, self._advice())
        return taken

    def _dump(self, value: Any) -> bytes:
        if self._adapter is None:
            return to_json(value)
        # By field name, not by alias: the alias for reading and that for writing may differ.
        return self._adapter.dump_json(value, by_alias=False, round_trip=True, warnings="error")

    def _load(self, data: bytes) -> T:
        if self._adapter is None:
            return cast(T, from_json(data))
        return self._adapter.validate_json(data, strict=True, by_alias=False, by_name=True)

    def _advice(self) -> str:
        if self._adapter is None:
            return _ANNOTATE
        return f"It is announced as {self._name}: return just that, or announce (annotation or returns=) what it is."


def _refusal(value: object, trouble: Trouble, advice: str) -> ResultNotStorable:
    path = f"${trouble[0]}"
    return ResultNotStorable(
        f"the result would not come back from the store as it is: at {path}: {trouble[1]}. {advice} "
        "The result itself is in this error's `value`.",
        path=path,
        value=value,
    )


def result_type(annotation: Any) -> ResultType[Any]:
    """Says how results of a type are stored.

    Args:
        annotation: the type; ``UNANNOTATED``, ``Any``, ``object`` and a bare TypeVar all mean plain JSON, of which
            str, int, float, bool, None, list and dict with str keys come back exactly, and nothing else is taken.

    Raises:
        RunMisuse: values of that type cannot be stored.
    """
    if annotation in _NO_TYPE or isinstance(annotation, TypeVar):
        return _PLAIN
    try:
        # Unions in another order are equal to Python, but not to pydantic: their text tells them apart.
        return _cached(annotation, "" if isinstance(annotation, type) else repr(annotation))
    except TypeError:  # not hashable
        return _build(annotation)


def check_type(annotation: Any) -> None:
    """Raises RunMisuse if values of that type cannot be stored: for decorators, long before anything is paid."""
    result_type(annotation)


def annotation_of(fn: Callable[..., object]) -> Any:
    """Returns what calling (and awaiting) the function is annotated to give, or ``UNANNOTATED``.

    Raises:
        RunMisuse: it is not callable, or its annotation names what cannot be found from its module.
    """
    target: Any = fn
    if type(fn) is not FunctionType or fn.__dict__:  # else it is what is called, and wraps nothing
        target = _called(fn)
        if isinstance(target, type):
            return target
    notes: dict[str, Any] = getattr(target, "__annotations__", None) or {}
    if "return" not in notes:
        return UNANNOTATED
    hint = _resolved(fn, notes["return"], getattr(target, "__globals__", {}))
    origin = hint if isinstance(hint, type) else get_origin(hint)
    if isinstance(origin, type) and issubclass(origin, Awaitable):
        return (get_args(hint) or (UNANNOTATED,))[-1]
    return hint


def _called(fn: Callable[..., object]) -> Any:
    """The function that a call of it comes to; or the class, if it makes an object."""
    if not callable(fn):
        raise RunMisuse(f"{name_of(fn)} is not callable: give the function itself, and then its arguments.")
    target: Any = fn
    while isinstance(target, functools.partial) or "__wrapped__" in getattr(target, "__dict__", ()):
        target = cast(Any, target.func if isinstance(target, functools.partial) else target.__wrapped__)
    return target if isinstance(target, type) or inspect.isroutine(target) else inspect.unwrap(type(target).__call__)


def _resolved(fn: object, annotation: Any, names: dict[str, Any]) -> Any:
    """The return annotation alone: the parameters' types need not be found."""
    named = names.get(annotation, vars(builtins).get(annotation)) if isinstance(annotation, str) else annotation
    if isinstance(named, type):  # a class, or its bare name: nothing to resolve
        return named

    def returning() -> None: ...

    returning.__annotations__ = {"return": annotation}
    try:
        return get_type_hints(returning, names, include_extras=True)["return"]
    except Exception as exc:
        raise RunMisuse(
            f"the return annotation {annotation!r} of {name_of(fn)} cannot be resolved ({told(exc)}): a class defined "
            "inside a function, or imported for type checking only, cannot be found by its name. Pass the type "
            "itself as returns=, or define it in the module."
        ) from exc


@functools.lru_cache(maxsize=512)
def _cached(annotation: Any, _text: str) -> ResultType[Any]:
    return _build(annotation)


def _build(annotation: Any) -> ResultType[Any]:
    name = inspect.formatannotation(annotation)
    try:
        # Behind an alias pydantic takes our config for dataclasses and TypedDicts too; models keep their own.
        adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, NewType)("Result", annotation), config=_CONFIG)
        adapter.rebuild(raise_errors=True)
    except Exception as exc:
        raise RunMisuse(
            f"results of type {name} cannot be stored ({told(exc).split('. ')[0]}). Return what pydantic knows (JSON, "
            "a dataclass, a TypedDict, a pydantic model), or say with returns= what is returned."
        ) from exc
    return ResultType(name, adapter)


_PLAIN: ResultType[Any] = ResultType("plain JSON", None)
_NO_TYPE = (UNANNOTATED, Any, object)

"""An agent's arguments, as bytes and back: what a worker in another process calls the function with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast, get_type_hints

from pydantic_core import from_json, to_json

from agentcheckpoint.core.codec import UNANNOTATED, ResultType, result_type
from agentcheckpoint.core.roundtrip import name_of
from agentcheckpoint.errors import CheckpointCorrupt, ResultNotStorable


def encode_arguments(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Stores the arguments of a call.

    Raises:
        ResultNotStorable: one would not come back as it is; the message names it.
        RunMisuse: values of its annotated type cannot be stored.
    """
    signature = inspect.signature(fn)
    types = _types(fn, signature)

    def one(parameter: str, name: str, value: Any) -> Any:
        try:
            return from_json(types[parameter].encode(value)[0])
        except ResultNotStorable as exc:
            raise ResultNotStorable(
                f"{name_of(fn)}, argument {name!r}: it cannot be stored with the run: {exc}", path=exc.path, value=value
            ) from exc.__cause__

    stored: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            stored[name] = [one(name, f"{name}[{n}]", item) for n, item in enumerate(value)]
        elif kind is inspect.Parameter.VAR_KEYWORD:
            stored[name] = {key: one(name, key, item) for key, item in value.items()}
        else:
            stored[name] = one(name, name, value)
    return to_json(stored)


def decode_arguments(fn: Callable[..., Any], data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a stored call, in type.

    Raises:
        CheckpointCorrupt: they do not fit the function (any more).
    """
    signature = inspect.signature(fn)
    types = _types(fn, signature)

    def one(parameter: str, value: object) -> Any:
        return types[parameter].decode(to_json(value))

    try:
        stored = cast("dict[str, Any]", from_json(data))
        bound = signature.bind_partial()
        for name, value in stored.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(one(name, item) for item in value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: one(name, item) for key, item in value.items()}
            else:
                bound.arguments[name] = one(name, value)
        signature.bind(*bound.args, **bound.kwargs)
    except (TypeError, KeyError, ValueError, AttributeError, CheckpointCorrupt) as exc:
        raise CheckpointCorrupt(
            f"the stored arguments do not fit {name_of(fn)}: {type(exc).__name__}: {exc}. Has its signature changed "
            "since the run was started? Let it take what was stored, or begin the run afresh."
        ) from exc
    return bound.args, bound.kwargs


def _types(fn: Callable[..., Any], signature: inspect.Signature) -> dict[str, ResultType[Any]]:
    try:
        hints = get_type_hints(inspect.unwrap(fn), include_extras=True)
    except Exception:  # one annotation cannot be found: plain JSON is left
        hints = {}
    return {name: result_type(hints.get(name, UNANNOTATED)) for name in signature.parameters}

"""What is known of a function by looking at it, kept as long as it lives: a step is called again and again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from weakref import WeakKeyDictionary

EMPTY = inspect.Parameter.empty
"""Stands for the default of a parameter that has none."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What a look at a callable says.

    Attributes:
        signature: ``None``: it has none that can be read.
        plain: its parameters with their defaults, if each of them may be given by name, and there are no others.
        by_place: how many of these, from the first, may be given by position too.
        is_async: calling it gives a coroutine.
        is_generator: calling it gives a generator, async or not.
        code, defaults, kwdefaults: what a function is made of; ``None``: it is no plain one.
    """

    signature: inspect.Signature | None
    plain: Mapping[str, object] | None
    by_place: int
    is_async: bool
    is_generator: bool
    code: object = None
    defaults: object = None
    kwdefaults: object = None


_known: WeakKeyDictionary[FunctionType, Looks] = WeakKeyDictionary()
_known_methods: WeakKeyDictionary[FunctionType, Looks] = WeakKeyDictionary()
"""By the functions of the methods: what they are bound to makes no difference."""


def looks_of(fn: Callable[..., object]) -> Looks:
    """Looks at a callable; at a plain function or method only once, unless it is made of other code than it was."""
    function, memory = (fn.__func__, _known_methods) if isinstance(fn, MethodType) else (fn, _known)
    if type(function) is not FunctionType or function.__dict__:  # a decorator left there what may change its looks
        return _look(fn)
    known = memory.get(function)
    code, defaults, kwdefaults = function.__code__, function.__defaults__, function.__kwdefaults__
    # In a notebook, code that is loaded again is put into the functions that are there.
    if known is None or known.code is not code or known.defaults is not defaults or known.kwdefaults is not kwdefaults:
        known = memory[function] = _look(fn, code, defaults, kwdefaults)
    return known


def _look(fn: Callable[..., object], *made_of: object) -> Looks:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        signature = None
    is_generator = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
    parameters = () if signature is None else signature.parameters.values()
    by_place = sum(one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)
    is_plain = all(one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) for one in parameters)
    plain = {one.name: one.default for one in parameters} if signature is not None and is_plain else None
    return Looks(signature, plain, by_place, inspect.iscoroutinefunction(fn), is_generator, *made_of)

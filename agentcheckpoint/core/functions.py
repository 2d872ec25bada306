"""What is known of a function by looking at it, kept as long as it lives: a step is called again and again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from operator import is_
from types import FunctionType
from weakref import WeakKeyDictionary


@dataclass(frozen=True, slots=True)
class Looks:
    """What a look at a callable says.

    Attributes:
        signature: ``None``: it has none that can be read.
        is_async: calling it gives a coroutine.
        is_generator: calling it gives a generator, async or not.
    """

    signature: inspect.Signature | None
    is_async: bool
    is_generator: bool
    made_of: tuple[object, ...]


_known: WeakKeyDictionary[FunctionType, Looks] = WeakKeyDictionary()


def looks_of(fn: Callable[..., object]) -> Looks:
    """Looks at a callable; at a plain function only once, unless it is made of other code than it was."""
    if type(fn) is not FunctionType or fn.__dict__:  # what a decorator left there may change what it looks like
        return _look(fn, ())
    known = _known.get(fn)
    # In a notebook, code that is loaded again is put into the functions that are there.
    made_of = fn.__code__, fn.__defaults__, fn.__kwdefaults__
    if known is None or not all(map(is_, known.made_of, made_of)):
        known = _known[fn] = _look(fn, made_of)
    return known


def _look(fn: Callable[..., object], made_of: tuple[object, ...]) -> Looks:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        signature = None
    is_generator = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
    return Looks(signature, inspect.iscoroutinefunction(fn), is_generator, made_of)

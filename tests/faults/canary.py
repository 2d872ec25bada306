"""Fails where stored data is run: evaluated, unpickled, imported, or given to a shell."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from .mutations import MARK


class Executed(BaseException):
    """Stored data was run. No ``except Exception`` hides it."""


@contextmanager
def canary() -> Iterator[list[str]]:
    """While this is entered, whoever runs stored data is noted and stopped."""
    sung: list[str] = []

    def guarded(name: str, original: Callable[..., Any], always: bool) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if always or any(MARK in str(arg) for arg in args[:1]):
                sung.append(name)
                raise Executed(f"{name}({args[:1]!r:.80})")
            return original(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for place, name, always in (
            (builtins, "eval", False),
            (builtins, "exec", False),
            (builtins, "compile", False),
            (builtins, "__import__", False),
            (os, "system", True),
            (pickle, "loads", True),
            (pickle, "load", True),
            (subprocess, "Popen", False),
        ):
            stack.enter_context(patch.object(place, name, guarded(name, getattr(place, name), always)))
        yield sung

"""All rows, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

from . import commits, footprint, imports, model_calls, parallel, resumes
from .core import Row, Scale

MODULES: tuple[ModuleType, ...] = (commits, resumes, parallel, model_calls, footprint, imports)


def _named() -> Iterator[tuple[str, Callable[[Scale], Row]]]:
    for module in MODULES:
        theme = module.__name__.rpartition(".")[2]
        for measure in module.ROWS:
            yield f"{theme}.{measure.__name__}", measure


ROWS: dict[str, Callable[[Scale], Row]] = dict(_named())

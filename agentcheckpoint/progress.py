"""How far a loop is, as one line on standard error: in a terminal or a notebook, and nowhere else."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_PAUSE = 0.1
"""Seconds between two looks of the line."""


class Progress:
    """The line of one loop: what passed, of how many, and how many a second.

    Args:
        name: the loop's.
        total: how many items there are; ``None``: nobody knows.
        out: where it is written; without one, standard error, if somebody looks at that.
    """

    def __init__(self, name: str, total: int | None, out: TextIO | None = None) -> None:
        self._name, self._total = name, total
        self._out = out or (sys.stderr if _is_looked_at(sys.stderr) else None)
        self._began = self._shown = time.monotonic()
        self._first: int | None = None
        self._width = 0

    def at(self, done: int) -> None:
        """So many items have passed."""
        if self._first is None:
            self._first = done - 1  # those of earlier attempts are not part of the rate
        if time.monotonic() - self._shown >= _PAUSE:
            self._write(done)

    def end(self, done: int) -> None:
        """The loop is over, or was left: what is written next begins on a line of its own."""
        if self._first is not None and self._out is not None:
            self._write(done)
            self._out.write("\n")
            self._out.flush()

    def _write(self, done: int) -> None:
        self._shown = time.monotonic()
        if self._out is None:
            return
        line = line_of(
            self._name, done, self._total, (done - (self._first or 0)) / max(self._shown - self._began, 1e-9)
        )
        self._out.write(f"\r{line:<{self._width}}")
        self._out.flush()
        self._width = len(line)


def line_of(name: str, done: int, total: int | None, rate: float) -> str:
    """The text of a line; ``rate`` is in items a second."""
    of = "" if total is None else f" of {total:,}" + (f" ({min(done * 100 // total, 100)}%)" if total else "")
    return f"{name}: {done:,}{of}, {rate:,.{0 if rate >= 10 else 1}f} a second"


def _is_looked_at(stream: object) -> bool:
    """Whether it is a terminal's or a notebook's."""
    if type(stream).__module__.startswith("ipykernel."):
        return True
    isatty = getattr(stream, "isatty", None)
    try:
        return isatty is not None and bool(isatty())
    except ValueError:  # it is closed
        return False

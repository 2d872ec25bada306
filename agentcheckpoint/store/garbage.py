"""Python's search for cyclic garbage, left out while a log is read."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """No search inside, where many objects are made that all stay: it would walk through them again and again.

    A long log is read in a third of the time. What other threads throw away meanwhile is found afterwards.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

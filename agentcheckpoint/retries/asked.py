"""``Retry-After``: how long the other side asks to be left alone, read from an exception by its shape alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, cast

from agentcheckpoint.core.progress import causes

MOST = 86_400.0
"""Seconds: what asks for more is taken for this."""


def asked_wait(error: BaseException, now: float) -> float:
    """Seconds that the exception asks to wait: the most of what it, its causes, and those in a group say; else 0.

    Read are the headers ``retry-after-ms`` and ``retry-after`` (seconds, or a date) of its ``response``, and a number
    in its ``retry_after``.

    Args:
        error: any exception.
        now: seconds since the epoch, for a date where the response has none of its own.
    """
    said = [wait for one in causes(error) for wait in (_attribute(one), _header(one, now))]
    return min(MOST, max(said, default=0.0))


def _attribute(error: BaseException) -> float:
    with suppress(Exception):  # whatever the attribute's own code does
        value = getattr(error, "retry_after", None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _seconds(value)
    return 0.0


def _header(error: BaseException, now: float) -> float:
    with suppress(Exception):
        headers: Any = cast(Any, error).response.headers
        said = {str(name).lower(): str(value) for name, value in cast("Mapping[object, object]", headers).items()}
        if "retry-after-ms" in said:
            with suppress(ValueError):
                return _seconds(float(said["retry-after-ms"]) / 1000)
        if "retry-after" in said:
            return _of_text(said["retry-after"], said.get("date"), now)
    return 0.0


def _of_text(text: str, date: str | None, now: float) -> float:
    with suppress(ValueError):
        return _seconds(float(text))
    until = parsedate_to_datetime(text).timestamp()
    with suppress(ValueError):  # the clock that wrote the one date is the one to compare it with
        now = parsedate_to_datetime(date).timestamp() if date else now
    return _seconds(until - now)


def _seconds(value: float) -> float:
    return float(value) if math.isfinite(value) and value > 0 else 0.0

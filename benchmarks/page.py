"""The parts of docs/performance.md that scripts write, each between its own markers."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import redis

from .servers import server

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def part(name: str) -> str:
    """What stands between the markers of that name."""
    return _split(name)[1]


def write_part(name: str, text: str) -> None:
    """Puts the text there."""
    before, _, after = _split(name)
    PAGE.write_text(f"{before}\n{text.strip()}\n{after}", "utf-8")


def _split(name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = PAGE.read_text("utf-8").split(begin)
    inside, after = rest.split(end)
    return before + begin, inside, end + after


def machine(libraries: Iterable[str]) -> str:
    """The machine, its load at the moment, and what was measured on it.

    Args:
        libraries: names of distributions, whose versions are told.
    """
    with server("no") as url, redis.Redis.from_url(url) as client:
        told = client.info("server")
    serving = f"{told.get('server_name', 'redis')} {told.get('valkey_version', told['redis_version'])}"
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join((f"{serving} on loopback", *(f"{name} {version(name)}" for name in libraries)))
    return (
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores; {platform.system()} "
        f"{platform.release()}; Python {platform.python_version()}; {versions}. "
        f"Load before the run: {os.getloadavg()[0]:.1f}."
    )

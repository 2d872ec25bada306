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


def own_versions() -> list[str]:
    """Of the libraries that cost time in this environment."""
    return [f"{name} {version(name)}" for name in ("redis", "hiredis", "pydantic", "openai")]


def machine(versions: Iterable[str], load: float) -> str:
    """The machine, and what was measured on it.

    Args:
        versions: names of libraries, each with its version.
        load: of the machine before the run.
    """
    with server("no") as url, redis.Redis.from_url(url) as client:
        told = client.info("server")
    serving = f"{told.get('server_name', 'redis')} {told.get('valkey_version', told['redis_version'])}"
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return (
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores; {platform.system()} "
        f"{platform.release()}; Python {platform.python_version()}; {serving} on loopback; {', '.join(versions)}. "
        f"Load before the run: {load:.1f}."
    )

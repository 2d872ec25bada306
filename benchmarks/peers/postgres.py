"""A PostgreSQL for the time of the measurement, on loopback TCP; each commit is synced, as it is by default."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..servers import free_port


class Missing(Exception):
    """Something that a peer needs is not on this machine."""


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Its URL while the block runs.

    Raises:
        Missing: PostgreSQL is not installed, or there is only root to run it as, whom it refuses.
    """
    binaries, owner, port = _binaries(), _owner(), free_port()
    home = Path(tempfile.mkdtemp(prefix="agentcheckpoint-bench-"))
    os.chown(home, -1 if owner is None else owner, -1)
    settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home}"
    words: tuple[str | Path, ...] = ("-D", home / "data", "-w", "-l", home / "log", "-o", settings)
    told: dict[str, Any] = {"user": owner, "cwd": home, "stdout": subprocess.DEVNULL, "check": True, "timeout": 120}
    try:
        subprocess.run([binaries / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-N"], **told)
        subprocess.run([binaries / "pg_ctl", "start", *words], **told)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([binaries / "pg_ctl", "stop", "-D", home / "data", "-m", "immediate"], **told)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _binaries() -> Path:
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), shutil.which("initdb")]
    for path in found:
        if path is not None:
            return Path(path).parent
    raise Missing("PostgreSQL is not installed")


def _owner() -> int | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        raise Missing("PostgreSQL refuses root, and there is no user 'postgres' to run it as") from None

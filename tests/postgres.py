"""A PostgreSQL of the tests' own, on a Unix socket in a directory of its own; skipped where there is none."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest


def _binaries() -> Path | None:
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), shutil.which("initdb")]
    return next((Path(path).parent for path in found if path is not None), None)


@contextmanager
def postgres() -> Iterator[str]:
    """A server's conninfo. It refuses root: then it runs as its own user."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    owner = _owner()
    home = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has a limit
    if owner is not None:
        os.chown(home, owner, -1)
    told = {"user": owner, "cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    initdb = [binaries / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-N"]
    subprocess.run(initdb, check=True, timeout=120, **told)
    settings = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={home}", "-c", "shared_buffers=8MB")
    server = subprocess.Popen([binaries / "postgres", "-D", home / "data", *settings], **told)
    try:
        conninfo = f"host={home} user=postgres dbname=postgres"
        while not _answers(conninfo):
            assert server.poll() is None, "PostgreSQL ended by itself"
            time.sleep(0.1)
        yield conninfo
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
        shutil.rmtree(home)


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _owner() -> int | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        pytest.skip("PostgreSQL refuses root, and there is no user 'postgres' to run it as")

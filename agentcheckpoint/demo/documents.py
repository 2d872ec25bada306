"""What the demo's agent reads: a folder that it is given, else the project's own documents."""

from __future__ import annotations

import shutil
from pathlib import Path

import agentcheckpoint

QUESTION = "What happens to a paid model call when the worker is killed before its commit?"
"""Asked of the project's own documents."""
OVERVIEW = "What is this about?"
"""Asked of a folder, if nothing else is."""


def own_documents(into: Path) -> Path:
    """Copy the project's README and docs to a folder: a checkout's, else what the installed package ships.

    Args:
        into: an empty directory.

    Returns:
        The folder.
    """
    package = Path(agentcheckpoint.__file__).parent
    checkout = package.parent
    root = checkout if (checkout / "pyproject.toml").is_file() else package / "demo" / "documents"
    shutil.copy(root / "README.md", into)
    if (root / "docs").is_dir():
        shutil.copytree(root / "docs", into / "docs")
    return into


def count_documents(folder: Path) -> int:
    """How many documents the agent will find in a folder."""
    paths = (path for path in folder.rglob("*") if path.suffix in (".md", ".rst", ".txt"))
    return sum(path.is_file() and path.resolve().is_relative_to(folder.resolve()) for path in paths)

"""The environment that the peers are installed in: one of their own, never this package's."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

PINS = (
    ("redis==8.1.0", "hiredis==3.5.0"),
    ("dbos==3.4.0",),
    ("langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2"),
    ("redflow==0.1.9",),
    ("absurd-sdk==0.5.1", "absurdctl==0.5.1"),
)
"""What is installed, in this order: the peers that fail do not hinder the others."""


def python_of(directory: Path) -> Path:
    """The interpreter of the environment in the directory."""
    return directory / "bin" / "python"


def install(directory: Path) -> bool:
    """Makes the environment and installs the peers into it, and prints those that could not be.

    Returns:
        Whether all of them were.
    """
    venv.create(directory, with_pip=True)
    failed = [pins for pins in PINS if subprocess.run([python_of(directory), "-m", "pip", "install", *pins]).returncode]
    for pins in failed:
        print("could not be installed:", *pins)
    return not failed

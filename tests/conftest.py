"""Lets a test module import the plain modules beside it, and begins with the longest: no core idles at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "protocol")]

LONGEST = "test_faults test_corruption test_server_deaths test_demo test_typing test_model test_readme".split()
"""The modules that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))

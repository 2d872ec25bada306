"""The table of docs/changing-code.md: each row names the test that pins it, and that test exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import page

ROWS = [line.strip("| ").split(" | ") for line in page("docs/changing-code.md").prose.splitlines() if line[:1] == "|"]
TESTS = set[str]().union(
    *(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.M) for path in Path(__file__).parent.glob("*.py"))
)


@pytest.mark.parametrize("row", ROWS[2:], ids=lambda row: row[0])
def test_each_row_names_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == 4
    assert row[3].strip("`") in TESTS


def test_the_table_is_found() -> None:
    assert len(ROWS) > 10 and "test_that_nobody_wrote" not in TESTS

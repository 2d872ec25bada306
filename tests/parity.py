"""The table of docs/parity.md as data, and the look at the end of a whole session whether its tests have run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from pages import page

RULES = {"R": 61, "A": 47, "J": 26, "P": 28}
"""How many rules of each kind there are; they are numbered from 1."""

VERDICTS = ("adopted", "opposite", "does not apply")
_ROW = re.compile(r"^\| ([RAJP]\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+\.py::test_\w+)`")


@dataclass(frozen=True, slots=True)
class Row:
    """One rule: what we make of it, in a word and in a sentence, and the tests that pin that."""

    rule: str
    verdict: str
    here: str
    tests: tuple[str, ...]
    under_construction: bool


def read(text: str) -> list[Row]:
    """The rows of the page's tables, in its order."""
    return [
        Row(rule, verdict.strip(), here.strip(), tuple(_TEST.findall(pinned)), "TODO(" in pinned)
        for rule, verdict, here, pinned in _ROW.findall(text)
    ]


def named() -> set[str]:
    """The tests that the page names, as pytest calls them."""
    return {f"tests/{test}" for row in read(page("docs/parity.md").text) for test in row.tests}


class Ran:
    """Fails a session of the whole suite in which a named test was not run: skipped, deselected, or not there.

    It stands in the process that hears of all tests. A session of a part, and one that has failed already, is let be.
    What a machine cannot run is skipped there, and listed: a failure in CI alone, which has all that the tests need.
    """

    def __init__(self, config: pytest.Config, tests: Iterable[str]) -> None:
        option = config.getoption
        narrowed = option("keyword") or option("markexpr") or option("deselect") or option("collectonly")
        self.whole = config.args == config.getini("testpaths") and not narrowed
        self.missing, self.skipped = set(tests), set[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "skipped":
            self.skipped.add(report.nodeid.split("[")[0])
        elif report.when == "call":
            self.missing.discard(report.nodeid.split("[")[0])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        wrong = self.missing if os.environ.get("CI") else self.missing - self.skipped
        if self.whole and wrong and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.whole and self.missing:
            terminalreporter.section("named in docs/parity.md and not run", red=True)
            for test in sorted(self.missing):
                terminalreporter.line(test)

"""docs/parity.md: each rule stands there once, with a test that exists or a reason; the session sees that it runs."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache

import pytest
from pages import ROOT, page
from parity import RULES, VERDICTS, Row, read

pytest_plugins = ["pytester"]
ROWS = read(page("docs/parity.md").text)


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def wrong(row: Row) -> list[str]:
    """What a row lacks."""
    found = [] if row.verdict in VERDICTS else [f"{row.rule}: {row.verdict!r} is no verdict"]
    found += [] if row.here else [f"{row.rule}: does not say what we do, or why not"]
    if row.verdict != "does not apply" and not row.tests and not row.under_construction:
        found.append(f"{row.rule}: names no test")
    for test in row.tests:
        file, name = test.split("::")
        if not (ROOT / "tests" / file).exists() or name not in functions(file):
            found.append(f"{row.rule}: there is no {test}")
    return found


def test_each_rule_stands_once() -> None:
    rules = [f"{kind}{number}" for kind, count in RULES.items() for number in range(1, count + 1)]
    assert Counter(row.rule for row in ROWS) == Counter(rules)


def test_each_rule_has_a_test_that_exists_or_a_reason_why_it_does_not_apply() -> None:
    assert [fault for row in ROWS for fault in wrong(row)] == []


@pytest.mark.parametrize(
    "row",
    [
        "| R1 | perhaps | we do | `test_parity.py::test_each_rule_stands_once` |",
        "| R1 | adopted |  | `test_parity.py::test_each_rule_stands_once` |",
        "| R1 | adopted | we do | |",
        "| R1 | opposite | we do | `test_parity.py::test_gone` |",
        "| R1 | opposite | we do | `test_gone.py::test_gone` |",
    ],
)
def test_a_row_that_lacks_something_is_noticed(row: str) -> None:
    assert [fault for found in read(row) for fault in wrong(found)]


CONFTEST = """
import sys
sys.path.insert(0, {tests!r})
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        from parity import Ran
        config.pluginmanager.register(Ran(config, ["tests/test_a.py::test_named"]))
"""
ENDS: list[tuple[str, tuple[str, ...], int]] = [
    ("def test_named(): pass", (), 0),
    ("def test_named(): pass", ("-n", "1", "--dist", "loadfile"), 0),
    ("import pytest\n@pytest.mark.skip\ndef test_named(): pass", (), 1),
    ("def test_renamed(): pass", (), 1),
    ("def test_renamed(): pass", ("tests/test_a.py",), 0),
    ("def test_named(): pass\ndef test_other(): pass", ("-k", "other"), 0),
]


@pytest.mark.parametrize(("module", "options", "code"), ENDS)
def test_a_whole_session_in_which_a_named_test_did_not_run_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, module: str, options: tuple[str, ...], code: int
) -> None:
    monkeypatch.setenv("CI", "true")
    pytester.makeini("[pytest]\ntestpaths = tests\nasyncio_default_fixture_loop_scope = function")
    pytester.mkdir("tests").joinpath("test_a.py").write_text(module, "utf-8")
    pytester.path.joinpath("tests", "conftest.py").write_text(CONFTEST.format(tests=str(ROOT / "tests")), "utf-8")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)
    assert result.ret == code
    assert ("tests/test_a.py::test_named" in result.stdout.str()) == bool(code)


def test_what_a_machine_cannot_run_is_listed_and_fails_in_ci_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    pytester.makeini("[pytest]\ntestpaths = tests\nasyncio_default_fixture_loop_scope = function")
    skipped = "import pytest\n@pytest.mark.skip\ndef test_named(): pass"
    pytester.mkdir("tests").joinpath("test_a.py").write_text(skipped, "utf-8")
    pytester.path.joinpath("tests", "conftest.py").write_text(CONFTEST.format(tests=str(ROOT / "tests")), "utf-8")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == 0 and "tests/test_a.py::test_named" in result.stdout.str()

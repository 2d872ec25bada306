"""What README and docs say is true: their code runs, their transcripts are those of real runs, their links resolve."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import secrets
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from pages import ROOT, Block, Page, page, pages
from stage import on_loopback
from transcripts import PARTS, make, prices_are_as_written, write_reports

import agentcheckpoint as ac
from agentcheckpoint import errors
from agentcheckpoint.testing.provider import Provider

PAGES = list(pages())
_SHOWN = re.compile(r"^\s*print\(.*\)  # (.+)$", re.MULTILINE)


# -- their code -------------------------------------------------------------------------------------------------------


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the pages' examples run: a folder of reports, a store in memory, a provider on loopback."""
    write_reports(tmp_path / "reports")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTCHECKPOINT_URL", f"memory://{secrets.token_hex(8)}")
    monkeypatch.setattr(redis, "Redis", fakeredis.FakeRedis)
    with Provider() as provider, on_loopback(provider.url), warnings.catch_warnings():
        yield tmp_path


@pytest.mark.parametrize("shown", [page for page in PAGES if page.blocks("python")], ids=lambda page: page.name)
def test_every_python_block_runs_and_prints_what_its_comments_say(shown: Page, room: Path) -> None:
    module = types.ModuleType(f"page_{secrets.token_hex(4)}")
    sys.modules[module.__name__] = module
    try:
        for block in shown.blocks("python"):
            printed = run(block, shown.name, vars(module))
            said = _SHOWN.findall(block.text)
            assert not said or normal(printed).splitlines() == [*map(normal, said)], f"{shown.name}:{block.line}"
    finally:
        del sys.modules[module.__name__]


def run(block: Block, where: str, names: dict[str, Any]) -> str:
    """Runs a block as if it stood in its page's lines; returns what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile("\n" * (block.line - 1) + block.text, where, "exec", dont_inherit=True), names)
    return out.getvalue()


def test_a_block_that_prints_something_else_than_its_comment_is_noticed(room: Path) -> None:
    assert run(Block("python", "print(1 + 1)  # 3\n", 1), "here", {}).splitlines() != _SHOWN.findall(
        "print(1 + 1)  # 3"
    )


# -- what is written from real runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in PARTS.items() for part in parts])
def test_what_real_runs_show_is_what_the_page_shows(name: str, part: str) -> None:
    assert normal(page(name).parts()[part]) == normal(make(name, part)), "run: python tests/transcripts.py"


def normal(text: str) -> str:
    """Without what may differ: amounts, if the published prices have changed since."""
    return text if prices_are_as_written() else re.sub(r"\$[\d.,]+", "$", text)


def test_every_part_of_a_page_is_written_by_the_script() -> None:
    assert {shown.name: set(shown.parts()) for shown in PAGES if shown.parts()} == {n: set(p) for n, p in PARTS.items()}


# -- the first screen -------------------------------------------------------------------------------------------------


def test_the_first_screen_has_the_example_its_transcripts_and_the_two_commands() -> None:
    readme = page("README.md")
    screen = "\n".join(readme.text.splitlines()[:40])
    assert len(readme.text.splitlines()) < 200
    example, transcript = readme.blocks("python")[0].text, readme.parts()["transcript"]
    assert len([line for line in example.splitlines() if line.strip()]) <= 12 and example in screen
    assert transcript.count("$ python reports.py") == 2 and "Killed" in transcript and transcript in screen
    assert "```sh\npip install -e . && agentcheckpoint demo\npip install -e '.[test]' && pytest\n```" in screen


def test_the_name_of_the_distribution_is_explained_once() -> None:
    assert page("README.md").text.count("an unrelated package owns the plain name") == 1


def test_the_continuous_integration_calls_exactly_the_command_of_the_readme() -> None:
    command = page("README.md").blocks("sh")[0].text.splitlines()[1]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(command)


# -- links, and what is named -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", PAGES, ids=lambda page: page.name)
def test_links_and_anchors_resolve(shown: Page) -> None:
    for link in shown.links():
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (shown.path.parent / target).resolve() if target else shown.path
        assert path.is_file(), f"{shown.name}: {link}"
        assert not anchor or anchor in Page(path).anchors(), f"{shown.name}: {link}"


def test_every_page_of_the_docs_is_linked_from_the_readme() -> None:
    linked = {link for link in page("README.md").links() if link.startswith("docs/")}
    assert linked >= {shown.name for shown in PAGES if shown.name.startswith("docs/")}


def test_every_error_and_warning_has_one_anchor() -> None:
    classes = [
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, BaseException) and thing.__module__ == errors.__name__
    ]
    headings = page("docs/errors.md").headings()
    assert sorted(name for name in headings if hasattr(errors, name)) == sorted(classes)


def test_every_test_that_guards_a_rule_exists() -> None:
    rules = page("docs/protocol.md").text.split("## The rules")[1]
    tests = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for number in range(1, 16):
        rule = re.search(
            rf"^{number}\. \*\*(.*?)(?=^{number + 1}\. \*\*|^Beside these)", rules, re.MULTILINE | re.DOTALL
        )
        assert rule is not None, f"rule {number} is not there"
        named = set(re.findall(r"`(test_\w+)`", rule[0]))
        assert named and named <= tests, f"rule {number} names {named - tests or 'no test'}"


def test_every_warning_about_a_store_that_is_explained_is_one_that_the_code_gives() -> None:
    section = page("docs/store.md").text.split("## What the warnings mean")[1].split("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)[2:]
    said = "\n".join(strings(ROOT / "agentcheckpoint"))
    assert len(cells) >= 10
    for cell in cells:
        assert all(part.strip() in said for part in cell.split("...")), cell


def strings(folder: Path) -> Iterator[str]:
    """All string literals of a package, those that stand in pieces joined."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_pages_name_only_what_is_there() -> None:
    for shown in PAGES:
        for name in re.findall(r"`@?ac\.(\w+)", shown.text):
            assert hasattr(ac, name), f"{shown.name}: ac.{name}"
        for name in re.findall(r"`run\.(\w+)", shown.text):
            assert hasattr(ac.Run, name), f"{shown.name}: run.{name}"

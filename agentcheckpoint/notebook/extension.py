"""``%load_ext agentcheckpoint``: the magics, and what shows a run that is a cell's last value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, cast, get_args
from weakref import WeakKeyDictionary

import IPython
from IPython import display

from agentcheckpoint import current
from agentcheckpoint.agents import Agent
from agentcheckpoint.core.spending import By
from agentcheckpoint.costing import CostTable, costs
from agentcheckpoint.errors import NotInstalled, RunMisuse
from agentcheckpoint.notebook.cells import Cells, view_bundle
from agentcheckpoint.notebook.line import Words, words
from agentcheckpoint.notebook.lists import RunList, recent_runs
from agentcheckpoint.notebook.wrapping import MAGIC, NAME, Wrapper, mark
from agentcheckpoint.previewing import Preview, preview
from agentcheckpoint.view import get

OLDEST = (8, 5)
"""The first IPython that this was tried in."""
SHOWN = (("agentcheckpoint.runs", "Run"), ("agentcheckpoint.aio", "AsyncRun"))
RUNS = 20
"""How many runs ``%agentruns`` shows if it is not told."""

_loaded: WeakKeyDictionary[Any, Extension] = WeakKeyDictionary()


def load(shell: Any) -> None:
    """Puts the magics into a shell. Loaded twice, they are there once.

    Raises:
        NotInstalled: this IPython is too old.
    """
    check_version(cast("tuple[int, ...]", tuple(IPython.version_info[:2])))
    unload(shell)
    _loaded[shell] = extension = Extension(shell)
    extension.put()


def unload(shell: Any) -> None:
    """Takes them away."""
    extension = _loaded.pop(shell, None)
    if extension is not None:
        extension.take_away()


def check_version(version: tuple[int, ...]) -> None:
    """Raises ``NotInstalled`` if an IPython of that version is too old."""
    if version < OLDEST:
        has, needs = (".".join(map(str, numbers)) for numbers in (version, OLDEST))
        raise NotInstalled(f"the notebook extension needs IPython {needs} or later, not {has}: pip install -U ipython")


class Extension:
    """The magics of one shell.

    Args:
        shell: IPython's.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        fill = functools.partial(shell.var_expand, depth=1_000_000)  # the notebook's variables, and no others
        self._cells = Cells(fill, show, getattr(shell, "kernel", None) is not None)
        self._wrapper = Wrapper()
        self._line_magics = (self.agentruns, self.agentcost, self.agentresume)

    def put(self) -> None:
        """Registers all."""
        shell = self._shell
        shell.input_transformers_cleanup.insert(0, marked)
        shell.ast_transformers.append(self._wrapper)
        shell.events.register("pre_run_cell", self._before_cell)
        shell.register_magic_function(not_first, "cell", MAGIC.lstrip("%"))
        for magic in self._line_magics:
            shell.register_magic_function(magic, "line", magic.__name__)
        for module, name in SHOWN:
            shell.display_formatter.mimebundle_formatter.for_type_by_name(module, name, bundle_of)

    def take_away(self) -> None:
        """Takes all of it back."""
        shell = self._shell
        shell.input_transformers_cleanup.remove(marked)
        shell.ast_transformers.remove(self._wrapper)
        shell.events.unregister("pre_run_cell", self._before_cell)
        shell.drop_by_id({NAME: self._cells})
        current.remark(None)
        magics = shell.magics_manager.magics
        magics["cell"].pop(MAGIC.lstrip("%"), None)
        for magic in self._line_magics:
            magics["line"].pop(magic.__name__, None)
        for module, name in SHOWN:
            pop_formatter(shell.display_formatter.mimebundle_formatter, module, name)

    def _before_cell(self, info: object = None) -> None:
        """Before each cell, since ``%reset`` takes it."""
        self._shell.push({NAME: self._cells}, interactive=False)

    def agentruns(self, line: str) -> RunList | None:
        """%agentruns [N] [--explain]: the runs that were opened last."""
        parser = Words("%agentruns", add_help=False, allow_abbrev=False)
        parser.add_argument("most", nargs="?", type=int, default=RUNS)
        given = _read(parser, line)
        if given.explain:
            _say("from agentcheckpoint.notebook.lists import recent_runs", f"recent_runs({given.most})")
            return None
        return recent_runs(given.most)

    def agentcost(self, line: str) -> CostTable | None:
        """%agentcost [ID] [--all] [--by model] [--explain]: what a run cost, by default that of the last such cell."""
        parser = Words("%agentcost", add_help=False, allow_abbrev=False)
        parser.add_argument("id", nargs="?", default=self._cells.last)
        parser.add_argument("--all", action="store_true")
        parser.add_argument("--by", choices=get_args(By), default="model")
        given = _read(parser, line)
        run_id = None if given.all else given.id
        if given.explain:
            _say(f"ac.costs(by={given.by!r}{'' if run_id is None else f', runs={run_id!r}'})")
            return None
        return costs(by=given.by, runs=run_id)

    def agentresume(self, line: str) -> Any:
        """%agentresume [ID] [--explain]: goes on with a run of an agent of this notebook, or says what would."""
        parser = Words("%agentresume", add_help=False, allow_abbrev=False)
        parser.add_argument("id", nargs="?", default=self._cells.last)
        given = _read(parser, line)
        if given.id is None:
            parser.error("which run? No cell of this kernel was one")
        name = get(given.id).agent
        if name is None:
            if not given.explain:
                return self._preview(given.id)
            _say(f"ac.preview({given.id!r})")
            return None
        variable, agent = _find_agent(self._shell.user_ns, name, given.id)
        code = f"{variable}.resume({given.id!r})"
        if given.explain:
            _say(code)
            return None
        if inspect.iscoroutinefunction(agent):
            raise RunMisuse(f"agent {name!r} is async: write `await {code}`.", run_id=given.id)
        return agent.resume(given.id)

    def _preview(self, run_id: str) -> Preview:
        print(f"This run is a cell's: run the cell that begins with {MAGIC} {run_id} again. What that would reuse:")
        return preview(run_id)


def marked(lines: list[str]) -> list[str]:
    """The transformer of a cell's text."""
    return mark(lines)


marked.has_side_effects = True  # type: ignore[attr-defined]
"""So IPython leaves it out when it asks whether what is typed is complete: it knows cells of ``%%``."""


def not_first(line: str, cell: str) -> None:
    """Where the magic is called by another one: it cannot wrap the cell there."""
    raise RunMisuse(f"{MAGIC} stands on the first line of a cell, and no other magic calls it.")


not_first.__doc__ = words().format_help()


def show(bundle: dict[str, str]) -> Any:
    """Displays texts by MIME type; returns what updates them."""
    return cast(Any, display).display(bundle, raw=True, display_id=True)


def bundle_of(opened: Any, include: object = None, exclude: object = None) -> tuple[dict[str, str], dict[str, Any]]:
    """An open or closed run as a card."""
    return view_bundle(opened), {}


def pop_formatter(formatter: Any, module: str, name: str) -> None:
    """Takes back what shows instances of a class, whether the class has been met or not."""
    formatter.deferred_printers.pop((module, name), None)
    for shown in [known for known in formatter.type_printers if (known.__module__, known.__name__) == (module, name)]:
        formatter.type_printers.pop(shown)


def _read(parser: Words, line: str) -> Any:
    parser.add_argument("--explain", action="store_true")
    return parser.read(line)


def _say(*lines: str) -> None:
    print("\n".join(["import agentcheckpoint as ac", *lines]))


def _find_agent(names: Mapping[str, Any], agent: str, run_id: str) -> tuple[str, Agent[..., Any]]:
    for variable, value in list(names.items()):
        if isinstance(value, Agent) and value.name == agent and not variable.startswith("_"):
            return variable, cast("Agent[..., Any]", value)
    raise RunMisuse(
        f"run {run_id!r} is one of agent {agent!r}, and no variable of this notebook holds that: run the cell that "
        "defines it first.",
        run_id=run_id,
    )

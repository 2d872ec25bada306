"""A cell that begins with ``%%agentrun``, as code inside of a ``with``: its text is marked, and its tree is wrapped."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterable, Iterator

MAGIC = "%%agentrun"
NAME = "__agentrun__"
"""What a marked cell calls; it lies in the notebook's namespace, hidden."""


def mark(lines: list[str]) -> list[str]:
    """The lines of a cell, where the magic's is a call instead, as long as any: so line numbers and texts stay.

    Args:
        lines: with their line ends, as IPython gives them.
    """
    first = next((n for n, line in enumerate(lines) if line.strip()), None)
    if first is None or lines[first].split()[0] != MAGIC:
        return lines
    said = lines[first].strip().removeprefix(MAGIC).strip()
    body = lines[first + 1 :]
    if "--explain" in _words(said):
        return [f"{NAME}.explain({said!r}, {''.join(body)!r})\n"]
    return [f"{NAME}({said!r})\n", *body]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


class Wrapper(ast.NodeTransformer):
    """Puts what follows a mark into ``with ... as run:``, and shows the value of its last expression after that."""

    def visit(self, node: ast.AST) -> ast.AST:
        """The same tree, if it has no mark."""
        if isinstance(node, ast.Module) and (opening := _marked(node)) is not None:
            return _wrapped(node, opening)
        return node


def _marked(cell: ast.Module) -> ast.Expr | None:
    first = cell.body[0] if cell.body else None
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Call):
        return None
    called = first.value.func
    return first if isinstance(called, ast.Name) and called.id == NAME else None


def _wrapped(cell: ast.Module, opening: ast.Expr) -> ast.Module:
    body = cell.body[1:]
    future = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    body = [node for node in body if node not in future] or [ast.Pass()]
    after: list[ast.stmt] = []
    if isinstance(last := body[-1], ast.Expr):
        body[-1] = ast.copy_location(ast.Expr(ast.copy_location(_call("keep", last.value), last.value)), last)
        after = [ast.copy_location(ast.Expr(_call("kept")), last)]
    item = ast.withitem(opening.value, ast.Name("run", ast.Store()))
    kind = ast.AsyncWith if awaits(body) else ast.With
    inside = ast.copy_location(kind([item], body), opening)
    return ast.fix_missing_locations(ast.Module([*future, inside, *after], cell.type_ignores))


def _call(method: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(NAME, ast.Load()), method, ast.Load()), list(arguments), [])


def awaits(body: Iterable[ast.AST]) -> bool:
    """Whether code waits for something itself, outside of the functions that it defines."""
    return any(
        isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)
        or (isinstance(node, ast.comprehension) and bool(node.is_async))
        for node in _own(body)
    )


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.GeneratorExp):
            yield from _own(ast.iter_child_nodes(node))


def awaits_in(body: str) -> bool:
    """Whether a cell's text waits for something itself; of one that is not plain Python, whether it says so at all."""
    try:
        return awaits(ast.parse(body).body)
    except SyntaxError:
        return "await " in body

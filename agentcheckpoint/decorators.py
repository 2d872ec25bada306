"""``@ac.step``, ``@ac.tool`` and ``@ac.agent``: sugar over ``run.step`` and ``ac.run``, with or without ()."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from agentcheckpoint.agents import Agent
from agentcheckpoint.core.amounts import Dollars
from agentcheckpoint.core.budget import Budget
from agentcheckpoint.core.codec import UNANNOTATED
from agentcheckpoint.core.ids import check_tags
from agentcheckpoint.options import Effect, InDoubt, OnMismatch, RunOptions, all_budgets
from agentcheckpoint.recipe import Recipe, mark_async
from agentcheckpoint.tools import Tool

if TYPE_CHECKING:
    from agentcheckpoint.retries.policy import Retry

P = ParamSpec("P")
R = TypeVar("R")

Key: TypeAlias = Callable[[Any], str] | Callable[[Any, Any], str] | Callable[[Any, Any, Any], str] | Callable[P, str]
"""Makes a key from a function's arguments. ``Callable[..., str]``, but so that pyright knows a lambda's parameters."""


class StepDecorator(Protocol):
    """What ``@ac.step(...)`` gives: it returns a function of the same type."""

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]: ...


class ToolDecorator(Protocol):
    """What ``@ac.tool(...)`` gives."""

    def __call__(self, fn: Callable[P, R], /) -> Tool[P, R]: ...


class AgentDecorator(Protocol):
    """What ``@ac.agent(...)`` gives."""

    def __call__(self, fn: Callable[P, R], /) -> Agent[P, R]: ...


@overload
def step(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    key: Key[P] | None = None,
    returns: Any = UNANNOTATED,
    ignore: Collection[str] = (),
    on_mismatch: OnMismatch | None = None,
    accept: Callable[[Any], bool] | None = None,
    cost: Dollars | Callable[[Any], Dollars] | None = None,
    max_cost: Dollars | None = None,
    retry: Retry | None = None,
    effect: Effect | None = None,
    in_doubt: InDoubt | None = None,
    verify: Callable[..., Any] | None = None,
    timeout: float | None = None,
    approve: bool | str | Key[P] = False,
    version: str | int | None = None,
    max_age: float | None = None,
    migrate: Callable[[Any], Any] | None = None,
) -> StepDecorator: ...
def step(fn: Any = None, /, **options: Any) -> Any:
    """Makes each call of a function, async or not, a step of the current run. Works on methods too.

    Where no run is active, the function just runs, and says so once by a ``NoActiveRunWarning``.

    Args:
        name: the step's name; the function's by default.
        key: called with the function's arguments, defaults filled in; returns what tells this call apart.
        returns, ignore, on_mismatch, accept, cost, max_cost, retry, effect, in_doubt, verify, timeout, approve,
            version, max_age, migrate: as in ``ac.Step``.

    Raises:
        RunMisuse: it is a generator, its results cannot be stored, or an option makes no sense.
        InvalidName: the name cannot be used.
    """
    return functools.partial(_step, **options) if fn is None else _step(fn)


def _step(fn: Callable[..., Any], /, **options: Any) -> Callable[..., Any]:
    recipe = Recipe(fn, "step", **options)

    @functools.wraps(fn)
    def stepped(*args: Any, **kwargs: Any) -> Any:
        return recipe.call(args, kwargs)

    if recipe.is_async:
        mark_async(stepped)
    return stepped


@overload
def tool(fn: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    key: Key[P] | None = None,
    returns: Any = UNANNOTATED,
    ignore: Collection[str] = (),
    on_mismatch: OnMismatch | None = None,
    accept: Callable[[Any], bool] | None = None,
    cost: Dollars | Callable[[Any], Dollars] | None = None,
    max_cost: Dollars | None = None,
    retry: Retry | None = None,
    effect: Effect | None = None,
    in_doubt: InDoubt | None = None,
    verify: Callable[..., Any] | None = None,
    timeout: float | None = None,
    approve: bool | str | Key[P] = False,
    version: str | int | None = None,
    max_age: float | None = None,
    migrate: Callable[[Any], Any] | None = None,
) -> ToolDecorator: ...
def tool(fn: Any = None, /, **options: Any) -> Any:
    """Makes a function a tool for a model: a step, with the schema to announce it by and a ``call`` to run it by.

    Args:
        name, key, returns, ignore, on_mismatch, accept, cost, max_cost, retry, effect, in_doubt, verify, timeout,
            approve, version, max_age, migrate: as in ``ac.step``; the name also has to please models: 1 to 64
            of ``a-z A-Z 0-9 _ -``.

    Raises:
        RunMisuse: as ``ac.step``; or a model could not give its arguments.
        InvalidName: the name cannot be used.
    """
    return functools.partial(_tool, **options) if fn is None else _tool(fn)


def _tool(fn: Callable[..., Any], /, **options: Any) -> Tool[Any, Any]:
    return Tool(Recipe(fn, "tool", **options))


@overload
def agent(fn: Callable[P, R], /) -> Agent[P, R]: ...
@overload
def agent(
    *,
    name: str | None = None,
    on_mismatch: OnMismatch = "error",
    returns: Any = UNANNOTATED,
    budget: Budget | Sequence[Budget] = (),
    tags: Iterable[str] = (),
    retry: Retry | None = None,
    timeout: float | None = None,
) -> AgentDecorator: ...
def agent(fn: Any = None, /, **options: Any) -> Any:
    """Makes each call of a function, async or not, a run: ``research(q)``, or named, ``research.run("r-42", q)``.

    Args:
        name: what its runs are listed under; the function's name by default.
        on_mismatch: what to do when a run of that id was started with other arguments, or a recorded step is called
            with other inputs: ``"error"``, ``"rerun"`` or ``"reuse"``.
        returns: the type of the output, when the function's annotation does not say it.
        budget: the ceiling, or ceilings, on what a run of it pays; see ``Budget``.
        tags: what ``ac.costs`` counts the money of its runs under.
        retry: when a failed attempt is followed by another: any policy of tenacity's, such as
            ``Retrying(stop=stop_after_attempt(5), wait=wait_random_exponential(max=60))``. Its count and its waits are
            stored with the run: another process goes on with them. The last error is raised unchanged, and the run is
            ``failed``.
        timeout: seconds that an attempt of a run may take, as in ``ac.run``.

    Raises:
        RunMisuse: it is a generator, its output cannot be stored, or there is no such policy.
        InvalidName: the name or a tag cannot be used.
    """
    return functools.partial(_agent, **options) if fn is None else _agent(fn)


def _agent(
    fn: Callable[..., Any],
    /,
    *,
    name: str | None = None,
    on_mismatch: OnMismatch = "error",
    returns: Any = UNANNOTATED,
    budget: Budget | Sequence[Budget] = (),
    tags: Iterable[str] = (),
    retry: Retry | None = None,
    timeout: float | None = None,
) -> Agent[Any, Any]:
    budgets, tags = all_budgets(budget), check_tags(tags)
    options = RunOptions(on_mismatch=on_mismatch, budgets=budgets, tags=tags, retry=retry, timeout=timeout)
    return Agent(fn, name, returns, options)

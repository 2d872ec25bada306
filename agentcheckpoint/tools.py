"""A tool: a step that a model may call. Its schema, and the check of what a model gives, come from its signature."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import to_json

from agentcheckpoint.core.roundtrip import name_of, told
from agentcheckpoint.errors import InvalidName, RunMisuse
from agentcheckpoint.recipe import Recipe, mark_async, names_may_follow

if TYPE_CHECKING:
    from agentcheckpoint.openai.params import ChatCompletionFunctionToolParam, FunctionToolParam

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Tool(Generic[P, R]):
    """A function that a model may call; made by ``@ac.tool``.

    Called as a function it is a step, like one decorated with ``@ac.step``. A tool that is a method is complete when
    it is taken from an instance: ``box.search.openai_schema``.
    """

    __wrapped__: Callable[..., Any]
    __name__: str

    def __init__(self, recipe: Recipe, bound: tuple[Any, ...] = ()) -> None:
        functools.update_wrapper(self, MethodType(recipe.fn, *bound) if bound else recipe.fn)
        self._recipe = recipe
        self._bound = bound
        if recipe.is_async:
            mark_async(self)
        if not bound:
            _check_name(self.name)
            with names_may_follow():
                self._parameters()

    @property
    def name(self) -> str:
        """What the model calls it, and what its steps are called."""
        return self._recipe.step.name

    @property
    def openai_schema(self) -> ChatCompletionFunctionToolParam:
        """The tool as chat completions take it: a dict for ``tools=[...]``. The docstring is its description.

        Raises:
            RunMisuse: an argument's type is not found.
        """
        tool: ChatCompletionFunctionToolParam = {
            "type": "function",
            "function": {"name": self.name, "parameters": self._parameters()},
        }
        if doc := inspect.getdoc(self.__wrapped__):
            tool["function"]["description"] = doc
        return tool

    @property
    def responses_schema(self) -> FunctionToolParam:
        """The tool as the Responses API takes it: a dict for ``tools=[...]``. The docstring is its description.

        It is not strict: else a model could leave out no argument, not even one with a default.

        Raises:
            RunMisuse: an argument's type is not found.
        """
        tool: FunctionToolParam = {
            "type": "function",
            "name": self.name,
            "parameters": self._parameters(),
            "strict": False,
        }
        if doc := inspect.getdoc(self.__wrapped__):
            tool["description"] = doc
        return tool

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast(R, self._recipe.call((*self._bound, *args), kwargs))

    def call(self, arguments: str | Mapping[str, object], *, id: str | None = None) -> R:
        """Runs the tool as a model called it.

        Args:
            arguments: what the model gave: JSON text, or what was parsed from it.
            id: the model's id of this call. It is the step's key: the recorded answer of the model that asked for
                the call finds the recorded result.

        Returns:
            What the tool returns; of an async one, a coroutine.

        Raises:
            pydantic.ValidationError: the arguments do not fit the signature (from an async tool, when it is awaited).
                Nothing ran and nothing was recorded: give the message back to the model.
            Exception: what calling the tool raises.
        """
        text = arguments if isinstance(arguments, str) else to_json(dict(arguments))
        try:
            args, kwargs = self._arguments.validate_json(text)
        except ValidationError as exc:
            if self._recipe.is_async:
                return cast(R, _raise(exc))
            raise
        return cast(R, self._recipe.call((*self._bound, *args), kwargs, id))

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(self: Tool[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None, /) -> Tool[Q, R]: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None, /) -> Any:
        return self if instance is None or self._bound else Tool[Any, Any](self._recipe, (instance,))

    def __repr__(self) -> str:
        return f"<tool {self.name!r}>"

    @functools.cached_property
    def _arguments(self) -> TypeAdapter[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Takes the place of the function, and returns its arguments as it would get them."""

        @functools.wraps(self.__wrapped__)
        def taken(*args: Any, **kwargs: Any) -> Any:
            return args, kwargs

        try:
            adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, taken))
            adapter.rebuild(raise_errors=True)
        except Exception as exc:
            raise self._no_schema(f"the types of its arguments cannot be read ({told(exc).split('. ')[0]})") from exc
        return adapter

    def _parameters(self) -> dict[str, object]:
        try:
            schema = self._arguments.json_schema()
        except PydanticInvalidForJsonSchema as exc:
            raise self._no_schema(f"its arguments have no JSON schema ({told(exc).split('. ')[0]})") from exc
        if schema.get("type") != "object":
            raise self._no_schema("it takes arguments by position, and a model gives them by name")
        return schema

    def _no_schema(self, why: str) -> RunMisuse:
        return RunMisuse(
            f"tool {self.name!r} ({name_of(self.__wrapped__)}): {why}. A model gives named arguments in JSON: annotate "
            "them with types that pydantic builds from JSON. What is no business of the model's (a client, a "
            "connection) belongs on the object of a method, or in a closure."
        )


async def _raise(error: Exception) -> Any:
    raise error


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise InvalidName(f"{name!r} cannot be the name of a tool. Models take 1 to 64 of a-z, A-Z, 0-9, _ and -.")

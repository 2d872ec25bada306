"""A decorated agent: a function that is a run. Named, it is started, resumed, or its stored output returned."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, cast

from agentcheckpoint.calling import AgentCall, stored_input, submit_call
from agentcheckpoint.core.arguments import decode_arguments, encode_arguments
from agentcheckpoint.core.budget import Budget
from agentcheckpoint.core.codec import UNANNOTATED, annotation_of, result_type
from agentcheckpoint.core.fingerprint import function_inputs
from agentcheckpoint.core.ids import check_name, check_run_id, check_tags
from agentcheckpoint.core.lifecycle import OnExisting
from agentcheckpoint.errors import ResultNotStorable, RunMisuse
from agentcheckpoint.explain import placed
from agentcheckpoint.options import RunOptions, all_budgets
from agentcheckpoint.recipe import check_function, default_name, is_async, mark_async
from agentcheckpoint.runs import new_run_id
from agentcheckpoint.series import answer, answer_async
from agentcheckpoint.store.connect import Connectable, connect, switched_off

if TYPE_CHECKING:
    from agentcheckpoint.retries.policy import Retry

P = ParamSpec("P")
R = TypeVar("R")


class Agent(Generic[P, R]):
    """A function each call of which is a run; made by ``@ac.agent``."""

    __wrapped__: Callable[..., Any]
    __name__: str

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str | None,
        returns: Any,
        options: RunOptions,
    ) -> None:
        check_function(fn, returns)
        functools.update_wrapper(self, fn)
        self._fn = fn
        self.name = check_name(default_name(fn, name))
        self._is_async = is_async(fn)
        if self._is_async:
            mark_async(self)
        self._returns = returns
        self._options = options
        self._store: Connectable = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """A new run with a generated id.

        It replays nothing and cannot be resumed. Inside another run, give it an id, or make it a step of that run.
        """
        return cast(R, self._start(None, args, kwargs))

    def run(self, id: str, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The run of that name: starts it, goes on with it, or, once it is completed, returns its stored output.

        Args:
            id: the run's name. The function's own arguments follow.

        Returns:
            What the function returns; of an async one, a coroutine. A completed run is not claimed, and the function
            is not called.

        Raises:
            StepMismatch: the run was started with other arguments, or by another agent.
            ResultNotStorable: what the function returned would not come back as it went; it is in ``value``.
            Exception: what ``ac.run`` and the function raise.
        """
        return cast(R, self._start(id, args, kwargs))

    def submit(self, id: str, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Hands a run to whoever works for this store: ``agentcheckpoint worker``, or an engine. Blocking.

        Args:
            id: the run's name. The function's own arguments follow; they are stored with the run.

        Returns:
            Whether it was made now; ``False``: there is such a run already, of the same arguments.

        Raises:
            ResultNotStorable: an argument would not come back as it is: another process could not be given it.
            RunMisuse: the type of an argument cannot be stored; or ``AGENTCHECKPOINT=off``.
            StepMismatch: there is a run of that id with other arguments, or of another agent.
            RunExists, RunDeleted, StoreRefused, StoreUnavailable, CommitUnknown.
        """
        if switched_off():
            raise RunMisuse(
                f"agent {self.name!r}: AGENTCHECKPOINT=off, and a run that is not stored cannot be handed on."
            )
        data = encode_arguments(self._fn, args, kwargs)
        return submit_call(self._call(id, *decode_arguments(self._fn, data), data), connect(self._store))

    def resume(self, id: str, /) -> R:
        """Goes on with a run of this agent, with the arguments that are stored for it.

        Args:
            id: the run's name.

        Returns:
            What the function returns; of an async one, a coroutine.

        Raises:
            RunNotFound: there is no such run.
            RunMisuse: its arguments are not stored.
            StepMismatch: it is another agent's.
            CheckpointCorrupt: the arguments do not fit the function (any more).
            Exception: what ``ac.run`` and the function raise.
        """
        return cast(R, self._resume(id, once=False))

    def attempt(self, id: str, /) -> R:
        """Makes one attempt of a run of this agent, as ``resume`` does: its error is raised, and not tried again here.

        The run's policy has its say all the same: it is ``retryable`` from a certain time on, or ``failed``. For those
        who make the next attempt elsewhere: workers and engines.

        Raises:
            CrashLoop: the last five attempts died, and none of them recorded a step. The run has ``failed``.
            Exception: what ``resume`` raises.
        """
        return cast(R, self._resume(id, once=True))

    def id_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """A name for the run of these arguments: equal arguments give the same, so that a duplicate joins the first.

        With ``using(on_existing="never")`` it is refused instead.
        """
        return f"{self.name}-{function_inputs(self._fn, args, kwargs).digest[:16]}"

    def using(
        self,
        *,
        store: Connectable = None,
        namespace: str | None = None,
        wait: float | None = None,
        lease: float | None = None,
        on_existing: OnExisting | None = None,
        budget: Budget | Sequence[Budget] | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        conversation: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
    ) -> Self:
        """The same agent, whose runs are kept elsewhere or opened otherwise; what is not given stays as it was.

        Args:
            store, namespace, lease, on_existing, budget, tags, metadata, conversation, timeout: as in ``ac.run``.
            retry: as in ``ac.agent``.
            wait: seconds to wait for another worker that is at the run, before ``RunBusy``. If it completes the run
                meanwhile, its output is returned.
        """
        given: dict[str, Any] = {
            "namespace": namespace,
            "wait": wait,
            "lease": lease,
            "on_existing": on_existing,
            "budgets": None if budget is None else all_budgets(budget),
            "tags": None if tags is None else check_tags(tags),
            "metadata": metadata,
            "conversation": conversation,
            "retry": retry,
            "timeout": timeout,
        }
        other = copy.copy(self)
        other._options = replace(self._options, **{name: value for name, value in given.items() if value is not None})
        other._store = self._store if store is None else store
        return other

    def __repr__(self) -> str:
        return f"<agent {self.name!r}>"

    def _resume(self, run_id: str, *, once: bool) -> Any:
        data = connect(self._store).run(stored_input(run_id, self.name, self._options))
        with placed(run_id):
            args, kwargs = decode_arguments(self._fn, data)
        call = self._call(run_id, args, kwargs, data)
        call = replace(call, options=replace(call.options, is_unattended=once))
        return answer_async(call, once=once) if self._is_async else answer(call, once=once)

    def _start(self, run_id: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if switched_off():
            return self._fn(*args, **kwargs)
        inspect.signature(self._fn).bind(*args, **kwargs)  # a call that cannot be made leaves no run behind
        try:
            data = encode_arguments(self._fn, args, kwargs)
            args, kwargs = decode_arguments(self._fn, data)  # as another process gets them: 1 for a float is 1.0
        except (ResultNotStorable, RunMisuse):  # such a run can be resumed by its caller alone
            data = None
        call = self._call(run_id, args, kwargs, data)
        return answer_async(call) if self._is_async else answer(call)

    def _call(self, run_id: str | None, args: tuple[Any, ...], kwargs: dict[str, Any], data: bytes | None) -> AgentCall:
        returns = annotation_of(self._fn) if self._returns is UNANNOTATED else self._returns
        if returns is UNANNOTATED:
            returns = Any  # plain JSON: the type of today's value would not be known when its output is read
        return AgentCall(
            run_id=new_run_id() if run_id is None else check_run_id(run_id),
            is_new=run_id is None,
            function=functools.partial(self._fn, *args, **kwargs),
            returns=returns,
            type=result_type(returns),
            store=self._store,
            options=replace(
                self._options,
                agent=self.name,
                inputs=function_inputs(self._fn, args, kwargs),
                input=data,
                unless_completed=True,
            ),
        )

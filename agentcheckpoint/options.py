"""How a step is to be run: what travels beside its function."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypedDict, TypeVar, get_args

from agentcheckpoint.core import ids
from agentcheckpoint.core.amounts import Dollars, dollars
from agentcheckpoint.core.budget import Budget
from agentcheckpoint.core.codec import UNANNOTATED
from agentcheckpoint.core.lifecycle import OnExisting
from agentcheckpoint.core.outdated import version_text
from agentcheckpoint.errors import RunMisuse

if TYPE_CHECKING:
    from agentcheckpoint.core.models import Inputs, Usage
    from agentcheckpoint.core.pricing import Price
    from agentcheckpoint.retries.policy import Retry

OnMismatch: TypeAlias = Literal["error", "rerun", "reuse"]
"""What to do when a recorded step is called with other inputs: raise, run it again (and pay), or take the record."""


Approve: TypeAlias = bool | str | Callable[..., str]
"""Whether a person is asked before a step is called: yes, with which text, or what makes it from the arguments."""

LEASE = 30.0
"""Seconds that a lease lasts without being renewed."""
MIN_LEASE, MAX_LEASE = 0.05, 86_400
Effect: TypeAlias = Literal["once"]
"""``"once"``: what a step does to the world must not be done twice."""
InDoubt: TypeAlias = Literal["ask", "rerun", "skip"]
"""What to do with such a step that was begun and may have happened: ask a person, call it again, or let it be."""
SHORTEST, LONGEST = 0.001, 31_536_000
"""Seconds that a limit may be, up to a year."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Happened(Generic[T]):
    """What ``Step(verify=...)`` returns if the step has happened: ``result`` is recorded as the step's result."""

    result: T


@dataclass(frozen=True, slots=True)
class Step:
    """A step's name and options; a plain string is a name without options.

    Args:
        name: the step's name, 1 to 200 characters without ``/ # [ ]``. The name is the contract: rename it, and it
            is another step.
        key: what tells this call apart from others of the same name; calls with the same key are the same step.
        returns: the type of the result, when the function's annotation does not say it.
        ignore: names of arguments that do not count when inputs are compared.
        on_mismatch: what to do when the inputs differ from the recorded ones; ``None``: what the run says.
        accept: called with a fresh result; if it says no, the answer is booked as wasted, the step raises
            ``StepRejected``, and the slot stays open.
        usage: for ``run.llm``: reads tokens from the result; returns ``None`` if it cannot.
        model: for ``run.llm``: the model's name, where the result does not say it.
        provider: for ``run.llm``: whose prices apply, such as ``"anthropic"``.
        prices: for ``run.llm``: your own prices, by model name; they come first.
        cost: what a call costs, in dollars, such as ``"0.01"``; or called with a fresh result, it says so. The step is
            then paid for: its intent is stored before it is made.
        max_cost: what a call costs at most, in dollars: its bound under a budget.
        max_tokens: the same in tokens.
        retry: when and how long a failed try is followed by another: any policy of tenacity's, such as
            ``Retrying(stop=stop_after_attempt(5), wait=wait_random_exponential(max=60))``. Another process goes on
            with it where this one ends.
        effect: ``"once"``: what it does must not be done twice. Its intent is stored before it is called; if nobody
            knows then what came of it, it is *in doubt*, and not simply called again.
        in_doubt: what is to be done then: ``"ask"`` (the default), ``"rerun"`` or ``"skip"``.
        verify: or found out: called with the step's arguments, it returns ``ac.Happened(result)``, or ``None`` if it
            has not happened; the step is then called again.
        timeout: seconds that one call of it may take; then it raises ``StepTimeout``.
        version: what its author says of its results: a record of another version is out of date. The step runs again,
            and pays again; with ``on_mismatch=`` it is refused or taken all the same. One with ``effect="once"`` is
            refused unless you say ``on_mismatch="rerun"``. No version is one too.
        max_age: seconds for which a record counts, by the store's clock. One that an earlier attempt of the run made,
            and that is older when the step is called, is not replayed: the step runs again.
        migrate: called with what is recorded, as plain JSON, if the record is of another version or does not fit the
            result's type any more; it returns what does, and nothing is paid again.
        approve: before it is called the first time, a person is asked: ``True``, a text for him, or what makes one
            from the step's arguments. Until somebody answers, the run waits; if he says no, the step raises
            ``NotApproved``.

    Raises:
        InvalidName: the name or key cannot be used.
        RunMisuse: there is no such policy, effect, version or limit, or ``accept``, ``usage``, ``cost``, ``migrate`` or
            ``approve`` is async.
        TypeError, ValueError: an amount is a float, or none.
    """

    name: str
    key: str | None = None
    returns: Any = UNANNOTATED
    ignore: Collection[str] = ()
    on_mismatch: OnMismatch | None = None
    accept: Callable[[Any], bool] | None = None
    usage: Callable[[Any], Usage | None] | None = None
    model: str | None = None
    provider: str | None = None
    prices: Mapping[str, Price] = field(default_factory=dict[str, "Price"])
    cost: Dollars | Callable[[Any], Dollars] | None = None
    max_cost: Dollars | None = None
    max_tokens: int | None = None
    retry: Retry | None = None
    effect: Effect | None = None
    in_doubt: InDoubt | None = None
    verify: Callable[..., Any] | None = None
    timeout: float | None = None
    approve: Approve = False
    version: str | int | None = None
    max_age: float | None = None
    migrate: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", ids.check_name(self.name))  # in normal form: two spellings are one step
        if self.key is not None:
            ids.check_key(self.key)
        if self.on_mismatch is not None:
            check_policy(self.on_mismatch)
        called = (self.accept, self.usage, self.cost, self.approve, self.migrate)
        if any(given is not None and inspect.iscoroutinefunction(given) for given in called):
            raise RunMisuse(
                f"step {self.name!r}: accept=, usage=, cost=, approve= and migrate= are called without await: "
                "they cannot be async."
            )
        if self.retry is not None:
            from agentcheckpoint.retries.policy import Policy  # tenacity is loaded where somebody uses it

            Policy(self.retry)
        for what, amount in (("cost", self.cost), ("max_cost", self.max_cost)):
            if amount is not None and not callable(amount):
                dollars(amount, f"Step({what}=...)")
        if self.timeout is not None:
            check_seconds("timeout", self.timeout, SHORTEST, LONGEST)
        check_effect(self)
        check_record(self)

    @property
    def version_text(self) -> str | None:
        """Its version, as it is recorded."""
        return version_text(self.name, self.version)


def check_record(step: Step) -> None:
    """Raises ``RunMisuse`` if it makes no sense how long its record counts."""
    version_text(step.name, step.version)
    if step.max_age is not None:
        check_seconds("max_age", step.max_age, SHORTEST, math.inf)
        if step.effect == "once":
            raise RunMisuse(f"step {step.name!r}: max_age= would have it done again, and effect='once' forbids that.")


def on_version(step: Step) -> OnMismatch:
    """What to do with its record of another version: what its author says at the step, never what the run says."""
    if step.migrate is not None:
        return "reuse"
    return step.on_mismatch or ("rerun" if step.effect is None else "error")


def check_effect(step: Step) -> None:
    """Raises ``RunMisuse`` if its effect, and what to do when it is in doubt, make no sense."""
    for option, given, allowed in (("effect", step.effect, Effect), ("in_doubt", step.in_doubt, InDoubt)):
        if given is not None and given not in get_args(allowed):
            raise RunMisuse(
                f"step {step.name!r}: {option}={given!r}: it is one of {', '.join(map(repr, get_args(allowed)))}."
            )
    if step.effect is None and (step.in_doubt is not None or step.verify is not None):
        raise RunMisuse(f"step {step.name!r}: in_doubt= and verify= are for a step with effect='once'.")
    if step.in_doubt is not None and step.verify is not None:
        raise RunMisuse(f"step {step.name!r}: verify= finds out what in_doubt= would decide: give one of the two.")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is opened: what ``ac.run`` or a decorated agent was told. See ``ac.run`` for what each means."""

    namespace: str = "default"
    wait: float = 0.0
    on_mismatch: OnMismatch = "error"
    on_existing: OnExisting = "allow"
    lease: float = LEASE
    budgets: tuple[Budget, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] | None = None
    conversation: str | None = None
    timeout: float | None = None
    retry: Retry | None = None
    """When a failed attempt is followed by another: of an agent, or of ``ac.attempts``."""
    agent: str | None = None
    """The decorated agent that is called, and its call: the fingerprint, and the arguments as they are stored."""
    inputs: Inputs | None = None
    input: bytes | None = None
    is_unattended: bool = False
    """A worker or an engine makes the attempts, as many as it takes: one that dies each time is given up."""
    unless_completed: bool = False
    """A run that is completed is not opened: its output is read instead."""

    def __post_init__(self) -> None:
        ids.check_namespace(self.namespace)
        check_policy(self.on_mismatch)
        if self.on_existing not in get_args(OnExisting):
            allowed = ", ".join(map(repr, get_args(OnExisting)))
            raise RunMisuse(f"on_existing={self.on_existing!r}: it is one of {allowed}.")
        check_seconds("lease", self.lease, MIN_LEASE, MAX_LEASE)
        check_seconds("wait", self.wait, 0, math.inf)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout, SHORTEST, LONGEST)
        if self.metadata is not None:
            object.__setattr__(self, "metadata", ids.check_metadata(self.metadata))
        if self.conversation is not None:
            ids.check_conversation(self.conversation)
        if self.retry is not None:
            from agentcheckpoint.retries.policy import Policy  # tenacity is loaded where somebody uses it

            Policy(self.retry)


class RunKeywords(TypedDict, total=False):
    """The keywords of ``ac.run`` that say how a run is opened."""

    namespace: str
    wait: float
    on_existing: OnExisting
    on_mismatch: OnMismatch
    lease: float
    budget: Budget | Sequence[Budget]
    tags: Iterable[str]
    metadata: Mapping[str, str] | None
    conversation: str | None
    timeout: float | None


def run_options(keywords: RunKeywords) -> RunOptions:
    """How a run is opened, by what ``ac.run`` was told. Raises ``RunMisuse``, ``InvalidName``."""
    told: dict[str, Any] = dict(keywords)
    told["budgets"] = all_budgets(told.pop("budget", ()))
    told["tags"] = ids.check_tags(told.get("tags", ()))
    return RunOptions(**told)


def all_budgets(budget: Budget | Sequence[Budget]) -> tuple[Budget, ...]:
    """One budget, or several, as several. Raises ``RunMisuse`` if it is something else."""
    given: tuple[Any, ...] = (budget,) if isinstance(budget, Budget) else tuple(budget)
    if not all(isinstance(one, Budget) for one in given):
        raise RunMisuse(f"budget={budget!r}: it is an ac.Budget, or several: budget=ac.Budget('2').")
    return given


def check_policy(policy: OnMismatch) -> OnMismatch:
    """Returns the policy, unchanged. Raises ``RunMisuse`` if there is none of that name."""
    if policy not in get_args(OnMismatch):
        raise RunMisuse(f"on_mismatch={policy!r}: it is one of {', '.join(map(repr, get_args(OnMismatch)))}.")
    return policy


def check_seconds(option: str, value: object, least: float, most: float) -> None:
    """Raises ``RunMisuse`` if it is no number in this range; ``most`` may be infinite."""
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
        return
    allowed = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:,}"
    raise RunMisuse(f"{option}={value!r}: it is a number, {allowed} seconds.")


def check_blocking(step: Step, what: str) -> None:
    """Raises ``RunMisuse`` if a blocking call of this step would have to await something of its policy."""
    if step.retry is not None:
        from agentcheckpoint.retries.policy import Policy, check_colour

        check_colour(Policy(step.retry), what)


OFF = "AGENTCHECKPOINT=off, and nobody can be asked by a run that is not stored"
"""Why an approval cannot be had where the library is switched off."""


def refuse_approval(step: Step, why: str) -> None:
    """Raises ``RunMisuse`` if the step is to be approved, where nobody can be asked."""
    if step.approve:
        raise RunMisuse(f"step {step.name!r} has approve=: {why}. It was not called.", step=step.name)


def as_step(step: str | Step) -> Step:
    """A plain name is a step without options."""
    if isinstance(step, Step):
        return step
    return _named(step) if type(step) is str else Step(step)


@functools.lru_cache(maxsize=1024)
def _named(name: str) -> Step:
    return Step(name)

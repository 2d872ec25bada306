"""A ceiling on what is paid: what counts towards it, and whether one more call fits under it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

from agentcheckpoint.core.amounts import Dollars, dollars
from agentcheckpoint.core.ids import check_budget_name
from agentcheckpoint.core.models import LedgerEntry

Window: TypeAlias = Literal["hour", "day", "month"]
Kind: TypeAlias = Literal["usd", "tokens", "calls"]
CountTokens: TypeAlias = Callable[[str, Mapping[str, Any]], int | None]
"""Endpoint and body of a model call -> its input tokens, or ``None``: not known."""

_LABELS: Mapping[str | None, str] = {None: "all", "hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Budget:
    """A ceiling on what a run pays, or on what all runs pay that name it. It holds: a call is reserved at its worst.

    Given as ``ac.run(..., budget=ac.Budget("2"))``. Without a name it is the run's own, over all its attempts. With
    one it is shared by all runs of the store and namespace that name it, in whatever process.

    Args:
        usd: dollars, such as ``"2.50"``; an int is whole dollars.
        tokens: input and output tokens.
        calls: attempts that may be billed.
        name: what it is shared by, such as ``"team-a"``.
        window: a shared one starts anew each ``"hour"``, ``"day"`` or ``"month"`` of UTC, on the store's clock;
            ``None``: never.
        assume_output: output tokens to reckon with where a call sets no limit. Then the call can take more.
        count_tokens: called with endpoint and body of a model call before it is made; returns its input tokens, or
            ``None`` if it cannot tell. Without, the request's bytes are their bound.
        on_exceeded: called with an ``ac.Exceeded`` instead of raising. It returns ``None`` (raise after all) or what
            to change in the body of a wrapped client's call, such as ``{"model": "gpt-5-mini"}``; or it raises.

    Raises:
        TypeError: an amount that is a float, or no number.
        ValueError: no limit, a negative one, no such window, or a window without a name.
        InvalidName: the name cannot be used.
    """

    usd: Dollars | None = None
    tokens: int | None = None
    calls: int | None = None
    _: KW_ONLY
    name: str | None = None
    window: Window | None = None
    assume_output: int | None = None
    count_tokens: CountTokens | None = None
    on_exceeded: Callable[[Exceeded], Any] | None = None

    def __post_init__(self) -> None:
        if self.usd is not None:
            dollars(self.usd, "Budget(usd=...)")
        for what in ("tokens", "calls", "assume_output"):
            _check_whole(what, getattr(self, what))
        if not self.limits:
            raise ValueError("a Budget limits something: Budget(usd=...), Budget(tokens=...) or Budget(calls=...)")
        if self.name is not None:
            object.__setattr__(self, "name", check_budget_name(self.name))
        if self.window is not None and (self.window not in get_args(Window) or self.name is None):
            raise ValueError(
                f"Budget(window={self.window!r}): it is one of {', '.join(map(repr, get_args(Window)))}, for a budget "
                "with a name: what is counted in a window is shared"
            )

    @property
    def limits(self) -> dict[Kind, int]:
        """What is limited, in nano-dollars, tokens and calls."""
        given: dict[Kind, int | None] = {
            "usd": None if self.usd is None else dollars(self.usd),
            "tokens": self.tokens,
            "calls": self.calls,
        }
        return {kind: limit for kind, limit in given.items() if limit is not None}


def _check_whole(what: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(f"Budget({what}={value!r}): it is a whole number, not a {type(value).__name__}")
    if value is not None and value < 0:
        raise ValueError(f"Budget({what}={value!r}): it is 0 or more")


@dataclass(frozen=True, slots=True)
class Sums:
    """So much of each kind: nano-dollars, tokens, calls."""

    usd: int = 0
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.usd + other.usd, self.tokens + other.tokens, self.calls + other.calls)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.usd - other.usd, self.tokens - other.tokens, self.calls - other.calls)

    def of(self, kind: Kind) -> int:
        """The amount of one kind."""
        amount: int = getattr(self, kind)
        return amount


@dataclass(frozen=True, slots=True)
class Tally:
    """What counts towards a budget: what was paid for something and for nothing, what may have been billed (at its
    bound), and what is reserved for calls under way."""

    paid: Sums = Sums()
    wasted: Sums = Sums()
    unresolved: Sums = Sums()
    reserved: Sums = Sums()

    @property
    def total(self) -> Sums:
        return self.paid + self.wasted + self.unresolved + self.reserved


@dataclass(frozen=True, slots=True)
class Ask:
    """What a call may take at most, before it is made.

    Attributes:
        usd: nano-dollars; ``None``: there is no bound.
        tokens: ``None``: there is no bound.
        why_usd, why_tokens: why there is no bound, and what to add.
        body: the request's JSON, of a wrapped client's call.
    """

    usd: int | None
    tokens: int | None
    why_usd: str = ""
    why_tokens: str = ""
    body: Mapping[str, Any] | None = None

    @property
    def sums(self) -> Sums:
        return Sums(self.usd or 0, self.tokens or 0, 1)

    def missing(self, budgets: Iterable[Budget]) -> str | None:
        """Why one of the budgets cannot bound this call; ``None``: each can."""
        kinds = {kind for budget in budgets for kind in budget.limits}
        if "usd" in kinds and self.usd is None:
            return self.why_usd
        return self.why_tokens if "tokens" in kinds and self.tokens is None else None


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A call that does not fit under a budget: what a budget's ``on_exceeded`` is told.

    Amounts are of ``kind``: nano-dollars, tokens, or calls.

    Attributes:
        budget: which one.
        kind: ``"usd"``, ``"tokens"`` or ``"calls"``.
        limit: its ceiling.
        paid, wasted, unresolved: what was spent; unresolved is what may have been billed, at its bound.
        reserved: what other calls under way may take.
        asked: what this call may take.
        run_id, step: which call.
        body: its JSON, if it is a wrapped client's.
    """

    budget: Budget
    kind: Kind
    limit: int
    paid: int
    wasted: int
    unresolved: int
    reserved: int
    asked: int
    run_id: str
    step: str
    body: Mapping[str, Any] | None = None

    @property
    def left(self) -> int:
        """What is left under the ceiling."""
        return max(0, self.limit - self.paid - self.wasted - self.unresolved - self.reserved)


def over(limits: Mapping[Kind, int], total: Sums) -> Kind | None:
    """The first kind whose ceiling such a total would break."""
    return next((kind for kind, limit in limits.items() if total.of(kind) > limit), None)


def counted(entry: LedgerEntry) -> Sums:
    """What an attempt counts for. Where nobody knows what it cost, it counts for its bound."""
    if entry.bill == "not_billed":
        return Sums()
    is_bought = entry.bill in ("paid", "wasted")
    usd = entry.cost if is_bought and entry.cost is not None else entry.bound
    usage = entry.usage if is_bought else None
    tokens = entry.bound_tokens if usage is None else usage.input_tokens + usage.output_tokens
    return Sums(usd or 0, tokens or 0, 1)


def tally_ledger(entries: Iterable[LedgerEntry], under_way: Collection[str] = ()) -> Tally:
    """What a run's ledger counts for; ``under_way`` are the attempts whose call has not ended."""
    sums = {"paid": Sums(), "wasted": Sums(), "unresolved": Sums(), "reserved": Sums()}
    for entry in entries:
        if entry.bill != "not_billed":
            sums["reserved" if entry.bill == "unresolved" and entry.id in under_way else entry.bill] += counted(entry)
    return Tally(**sums)


def uncounted(entries: Iterable[LedgerEntry], limits: Iterable[Kind]) -> int:
    """How many attempts may have been billed, and count for nothing: neither their cost nor a bound is known."""
    limited = set(limits)

    def is_blank(entry: LedgerEntry) -> bool:
        no_cost = entry.bound is None and (entry.bill == "unresolved" or entry.cost is None)
        no_usage = entry.bound_tokens is None and (entry.bill == "unresolved" or entry.usage is None)
        return ("usd" in limited and no_cost) or ("tokens" in limited and no_usage)

    return sum(entry.bill != "not_billed" and is_blank(entry) for entry in entries)


def window_of(window: Window | None, now_ms: int) -> str:
    """The name of the window that this moment lies in, in UTC."""
    return datetime.fromtimestamp(now_ms / 1000, tz=UTC).strftime(_LABELS[window])

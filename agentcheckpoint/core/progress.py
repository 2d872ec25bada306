"""How far something has come that failed: what its run has cost, and what each try has gained. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from agentcheckpoint.core.ledger import fold_entries, report
from agentcheckpoint.core.models import LedgerEntry

_LEFT = "_agentcheckpoint_progress"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step or a run has come when a try of it fails.

    Attributes:
        spent: nano-dollars of the run so far, by all its attempts: paid, wasted, and unresolved at their bounds, as far
            as known; ``None``: the run could not be opened.
        gained: how many steps each try so far has recorded, the one that fails now last.
    """

    spent: int | None
    gained: tuple[int, ...]


NOT_OPENED = Progress(None, ())


def spent_at_most(
    money: Mapping[str, LedgerEntry], waste: Mapping[str, LedgerEntry], new: Iterable[LedgerEntry] = ()
) -> int:
    """Nano-dollars paid, wasted, and unresolved at their bounds, as far as known.

    Args:
        money, waste: what the log, and what stands beside it, say of each attempt to pay.
        new: what the log does not say yet.
    """
    sums = report(fold_entries((*money.values(), *new), waste.values()))
    return sums.spent + sums.unresolved_bound


def leave(error: BaseException, progress: Progress) -> None:
    """Leaves it on the exception, for conditions that see nothing else."""
    with suppress(Exception):  # an exception that takes no attribute goes without
        setattr(error, _LEFT, progress)


def left_on(error: BaseException) -> Progress | None:
    """What was left on the exception, or on one that caused it."""
    return next((found for cause in causes(error) if isinstance(found := _read(cause), Progress)), None)


def _read(error: BaseException) -> object:
    with suppress(Exception):
        return getattr(error, _LEFT, None)
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, what it was raised from, and those in it, if it is a group: each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if one.__cause__ is not None:
            waiting.append(one.__cause__)
        if isinstance(one, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", one).exceptions

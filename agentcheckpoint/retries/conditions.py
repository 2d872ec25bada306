"""Conditions to stop retrying, in tenacity's style: by what a run has cost, and by whether it gets on."""

from __future__ import annotations

from tenacity import RetryCallState
from tenacity.stop import stop_base

from agentcheckpoint.core.amounts import Dollars, dollars
from agentcheckpoint.core.progress import Progress, left_on
from agentcheckpoint.errors import RunMisuse

_KNOWN = "agentcheckpoint_progress"


class stop_after_cost(stop_base):  # named as tenacity's own are
    """Stop when the run has cost so much: ``Retrying(stop=ac.stop_after_cost("0.50") | stop_after_attempt(9))``.

    Counted is what the run has paid, what was wasted, and what is unresolved at its bound, by all its attempts, as far
    as known. It stops retries; a ceiling that no call may break is a ``Budget``.

    Args:
        usd: dollars, such as ``"0.50"``.

    Raises:
        TypeError, ValueError: it is no amount.
    """

    def __init__(self, usd: Dollars) -> None:
        self.nano_dollars = dollars(usd, "stop_after_cost(...)")

    def __call__(self, retry_state: RetryCallState) -> bool:
        spent = progress_of(retry_state, "stop_after_cost").spent
        return spent is not None and spent >= self.nano_dollars


class stop_if_no_progress(stop_base):  # named as tenacity's own are
    """Stop after so many attempts in a row that recorded no new step; one that records any begins the count anew.

    Of a run its attempts count, also those of other processes; of a step its tries, by what they record inside of it.

    Args:
        attempts: how many without progress.
        ceiling: how many in all, whatever they record.

    Raises:
        RunMisuse: a number is below 1.
    """

    def __init__(self, attempts: int = 3, *, ceiling: int = 25) -> None:
        if min(attempts, ceiling) < 1:
            raise RunMisuse(f"stop_if_no_progress({attempts}, ceiling={ceiling}): both are 1 or more.")
        self.attempts, self.ceiling = attempts, ceiling

    def __call__(self, retry_state: RetryCallState) -> bool:
        gained = progress_of(retry_state, "stop_if_no_progress").gained
        if max(len(gained), retry_state.attempt_number) >= self.ceiling:
            return True
        return len(gained) >= self.attempts and not any(gained[-self.attempts :])


def tell(state: RetryCallState, progress: Progress | None) -> None:
    """Gives the conditions what they look at."""
    vars(state)[_KNOWN] = progress


def progress_of(state: RetryCallState, condition: str) -> Progress:
    """What the state, or the exception that left a run, says of how far it has come.

    Raises:
        RunMisuse: neither says anything.
    """
    known = vars(state).get(_KNOWN)
    if isinstance(known, Progress):
        return known
    error = state.outcome.exception() if state.outcome is not None else None
    found = None if error is None else left_on(error)
    if found is None:
        what = "a result" if error is None else f"{type(error).__name__}, which has left no run"
        raise RunMisuse(
            f"ac.{condition} was asked about {what}: it knows nothing of its cost and progress. It belongs into the "
            "policy of a step (ac.Step(name, retry=...)) or of a run, or into tenacity around `with ac.run(...)`."
        )
    return found

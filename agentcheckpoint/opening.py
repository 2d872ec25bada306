"""Opening and closing a run, in either colour: what each way of leaving the ``with`` means."""

from __future__ import annotations

import os
import warnings
from typing import Any

from agentcheckpoint.attempt import Attempt, failure, new_id
from agentcheckpoint.core.codec import ResultType
from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.models import Closed, Payload, RunState
from agentcheckpoint.errors import (
    LeaseLost,
    ResultNotStorable,
    RunDeleted,
    RunMisuse,
    Suspended,
    UnmetStepsWarning,
)
from agentcheckpoint.flow import Course, Flow, Perform, Raised
from agentcheckpoint.renewal import keep_alive
from agentcheckpoint.store.effects import Protocol

MENTIONED = 5
"""How many unmet steps a warning names."""


def switched_off() -> bool:
    """``AGENTCHECKPOINT=off``: the whole library is a pass-through."""
    return os.environ.get("AGENTCHECKPOINT", "").strip().lower() in ("off", "0", "false", "no")


def open_attempt(attempt: Attempt, wait: float) -> Protocol[None]:
    """Claims and loads the run. Raises what ``store.claim.open_run`` raises, ``RunBusy`` and ``StepMismatch``."""
    yield from attempt.opening(wait)
    keep_alive(attempt)


def state_after(error: BaseException | None) -> RunState:
    """The state that a run is in when its ``with`` was left so."""
    if error is None:
        return "completed"
    if isinstance(error, Suspended):
        return "waiting"
    return "retryable" if isinstance(error, Exception) else "interrupted"


def close_attempt(
    attempt: Attempt, error: BaseException | None, output: tuple[object, ResultType[Any]] | None
) -> Flow[None]:
    """Stores how the attempt ended. Trouble here never hides the error that ended it.

    Raises:
        LeaseLost: another worker has the run, whatever this one's code made of that.
        StoreError: the end could not be stored, and nothing else was wrong.
        ResultNotStorable: the output given to ``run.finish`` cannot be stored.
    """
    heir = attempt.fence.heir
    if isinstance(error, LeaseLost | RunDeleted) or heir is not None:
        with attempt.lease_lock:
            attempt.open = False
        if error is None and heir is not None:  # nothing was written of this end: the caller must not think so
            raise attempt.fence.lost_to(heir)
        return None
    data, unstorable = None, None
    if output is not None and error is None:
        try:
            data = output[1].encode(output[0])[0]
        except ResultNotStorable as exc:
            unstorable = exc
    try:
        yield from _close(attempt, error or unstorable, data)
    except Exception as trouble:
        if error is None:
            raise
        error.add_note(f"agentcheckpoint could not store that run {attempt.run_id!r} ended so: {trouble}")
    finally:
        with attempt.lease_lock:
            attempt.open = False
    return None if unstorable is None else Raised(unstorable)


def _close(attempt: Attempt, error: BaseException | None, data: bytes | None) -> Course[None]:
    for finish in list(attempt.before_next_call):
        yield from finish()
    entry_id = new_id()
    stored = None if data is None else attempt.chain.encode(data, attempt.where("", entry_id))
    report = attempt.cost()
    closed = Closed(
        id=entry_id,
        at=attempt.now_ms(),
        state=state_after(error),
        error=None if error is None else failure(error),
        output=None if stored is None else Payload(size=len(stored), codec=attempt.chain.name),
        saved=report.saved,
        replayed=report.replayed,
    )
    yield Perform(attempt.closing(closed, stored))
    if error is None:
        _warn_unmet(attempt)


def _warn_unmet(attempt: Attempt) -> None:
    unmet = attempt.journal.unmet()
    if not unmet:
        return
    costs = [entry.cost for done in unmet for entry in done.entries if entry.cost is not None]
    names = ", ".join(repr(done.slot) for done in unmet[:MENTIONED])
    more = f" and {len(unmet) - MENTIONED} more" if len(unmet) > MENTIONED else ""
    warnings.warn(
        f"run {attempt.run_id!r} ended without calling {len(unmet)} step(s) that are recorded for it: {names}{more}"
        f"{f' ({money(sum(costs))})' if costs else ''}. Were they renamed or removed, or did the code take another "
        "way this time? Their results are kept.",
        UnmetStepsWarning,
        stacklevel=2,
    )


def refuse_reuse(attempt: Attempt, entered: bool) -> None:
    """A run object is entered once: a second attempt is another object."""
    if entered:
        raise RunMisuse(
            f"run {attempt.run_id!r}: this ac.run(...) has been entered before. Call ac.run({attempt.run_id!r}) again "
            "for another attempt.",
            run_id=attempt.run_id,
        )

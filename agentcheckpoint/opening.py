"""Opening and closing a run, in either colour: what each way of leaving the ``with`` means."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext

from agentcheckpoint import current
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.ledger import answer_money, money
from agentcheckpoint.core.lifecycle import ENDED, LOOK_MS, due_after, state_after
from agentcheckpoint.core.models import Closed, RunState
from agentcheckpoint.core.progress import NOT_OPENED, Progress, leave, spent_at_most
from agentcheckpoint.errors import CommitUnknown, CrashLoop, RunDeleted, RunMisuse, UnmetStepsWarning
from agentcheckpoint.explain import crash_loop, failure, warn
from agentcheckpoint.flow import Course, Flow, Perform, Raised
from agentcheckpoint.renewal import keep_alive
from agentcheckpoint.stopping import unwatch_sigterm, watch_sigterm
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.index import list_due, list_run
from agentcheckpoint.taking import end_attempt, take_run
from agentcheckpoint.waits import list_waiting, until_begun

MOST_DEATHS = 5
"""How many attempts may die one after the other, without a step recorded, before workers leave the run alone."""
MENTIONED = 5
"""How many unmet steps a warning names."""


def open_attempt(attempt: Attempt, wait: float) -> Flow[None]:
    """Claims and loads the run; its time counts from then. Raises what ``store.claim.open_run`` raises, and
    ``RunBusy``.
    """
    current.announce(attempt)
    try:
        yield Perform(take_run(attempt, wait))
        if attempt.options.is_unattended and attempt.died_before >= MOST_DEATHS:
            raise crash_loop(attempt.run_id, attempt.died_before)
        timeout = attempt.options.timeout
        attempt.deadline = None if timeout is None else time.monotonic() + timeout
        watch_sigterm()
        yield Perform(_list(attempt))
        keep_alive(attempt)
        if attempt.options.retry is not None:
            from agentcheckpoint.retrying import before_flow

            yield from before_flow(attempt)
    except BaseException as exc:
        if attempt.open and not isinstance(exc, GeneratorExit):  # interrupted when it was ours already
            yield from close_attempt(attempt, exc, None)
        _leave_progress(attempt, exc)
        _withdraw(attempt)
        raise
    return None


def _list(attempt: Attempt) -> Protocol[None]:
    """Notes the run for who looks for work: this worker may die."""
    now = attempt.now_ms()
    look = now + min(attempt.fence.ttl_ms, LOOK_MS)
    attempt.is_listed = yield from list_run(attempt.namespace, attempt.run_id, now, look)


def _withdraw(attempt: Attempt) -> None:
    current.withdraw(attempt)
    unwatch_sigterm()


def close_attempt(attempt: Attempt, error: BaseException | None, output: bytes | None) -> Flow[None]:
    """Stores how the attempt ended, and gives the lease back. Trouble here never hides the error that ended it.

    Args:
        attempt: it is closed, whatever happens.
        error: what the ``with`` was left by.
        output: the run's output, as result bytes.

    Raises:
        LeaseLost, RunDeleted: the run is this worker's no more, whatever its code made of that.
        CommitUnknown: the server had not said what became of a commit: it is not waited for again.
        StoreError: the end could not be stored, and nothing else was wrong.
    """
    forked = attempt.fence.pid != os.getpid()
    attempt.leaving = True
    try:
        if forked or attempt.fence.heir is not None or isinstance(attempt.broken, RunDeleted | CommitUnknown):
            if error is None:  # nothing is written of this end: the caller must not think so
                attempt.check()
            yield from _judge(attempt, error)
            return None
        trouble = yield from _end_streams(attempt)
        if trouble is not None:
            _leave_progress(attempt, trouble)
        ended_by = trouble if error is None else error
        yield from _judge(attempt, ended_by)
        yield from _close(attempt, ended_by, output)
        return (
            Raised(trouble) if trouble is not None and (error is None or not isinstance(trouble, Exception)) else None
        )
    except Exception as exc:
        if error is None:
            _leave_progress(attempt, exc)
            raise
        error.add_note(f"agentcheckpoint could not store that run {attempt.run_id!r} ended so: {exc}")
        return None
    finally:
        if error is not None:
            _leave_progress(attempt, error)
        with nullcontext() if forked else attempt.lease_lock:  # a fork may have copied it locked
            attempt.open = False
        _withdraw(attempt)


def _judge(attempt: Attempt, error: BaseException | None) -> Course[None]:
    if attempt.options.retry is not None:
        from agentcheckpoint.retrying import judge_end  # tenacity is loaded where somebody uses it

        attempt.decision = yield from judge_end(attempt, error)


def _end_of(attempt: Attempt, error: BaseException | None, state: RunState) -> tuple[RunState, int | None]:
    """The state that the run is left in, and when it goes on by itself, milliseconds."""
    now = attempt.now_ms()
    if isinstance(error, CrashLoop):
        return "failed", None
    if state != "retryable" or attempt.decision is None:
        return state, due_after(error, state, now, attempt.journal.waits)
    wait = attempt.decision.wait
    return ("failed", None) if wait is None else (state, now + int(wait * 1000))


def _leave_progress(attempt: Attempt, error: BaseException) -> None:
    """Whoever opens the run again on his own may ask how far it has come."""
    spent = spent_at_most(attempt.money, attempt.waste)
    leave(error, Progress(spent, attempt.journal.tries.gained()) if attempt.number else NOT_OPENED)


def _end_streams(attempt: Attempt) -> Course[BaseException | None]:
    """Takes in the ends of streams that were left; returns what went wrong, or the interrupt that came meanwhile."""
    trouble: BaseException | None = None
    for finish in list(attempt.before_next_call):
        try:
            yield from finish()
        except GeneratorExit:
            raise
        except BaseException as exc:
            if trouble is None or not isinstance(exc, Exception):
                trouble = exc
    return trouble


def _close(attempt: Attempt, error: BaseException | None, data: bytes | None) -> Course[None]:
    entry_id, state = new_id(), state_after(error, cancelled=bool(attempt.fence.cancelled))
    if state == "waiting":
        yield Perform(until_begun(attempt))
    state, due = _end_of(attempt, error, state)
    stored = output = None
    if data is not None and error is None:
        stored, output = attempt.chain.encode(data, attempt.where("", entry_id))
    report = attempt.cost()
    closed = Closed(
        id=entry_id,
        at=attempt.now_ms(),
        state=state,
        error=failure(error) if error is not None and state in ("retryable", "failed", "cancelled") else None,
        output=output,
        due=due,
        saved=report.saved,
        replayed=report.replayed,
        saved_unpriced=report.saved_unpriced,
    )
    yield Perform(end_attempt(attempt, closed, stored))
    if not attempt.is_listed:  # what was to say so was lost
        yield Perform(_list(attempt))
    # An end that was asked for as the run was left was heard by nobody: whoever looks for work notes it.
    unheard = bool(attempt.fence.cancelled) and state not in ENDED
    if state == "waiting" and not unheard:
        yield Perform(list_waiting(attempt, closed.due))
    else:
        yield Perform(list_due(attempt.namespace, attempt.run_id, closed.at if unheard else closed.due))
    if error is None:
        _warn_unmet(attempt)


def _warn_unmet(attempt: Attempt) -> None:
    unmet = attempt.journal.unmet()
    if not unmet:
        return
    costs = [entry.cost for done in unmet for entry in answer_money(done) if entry.cost is not None]
    names = ", ".join(repr(done.slot) for done in unmet[:MENTIONED])
    more = f" and {len(unmet) - MENTIONED} more" if len(unmet) > MENTIONED else ""
    warn(
        f"run {attempt.run_id!r} ended without calling {len(unmet)} step(s) that are recorded for it: {names}{more}"
        f"{f' ({money(sum(costs))})' if costs else ''}. Were they renamed or removed, or did the code take another "
        "way this time? Their results are kept.",
        UnmetStepsWarning,
    )


def refuse_reuse(attempt: Attempt, entered: bool) -> None:
    """A run object is entered once: a second attempt is another object."""
    if entered:
        raise RunMisuse(
            f"run {attempt.run_id!r}: this ac.run(...) has been entered before. Call ac.run({attempt.run_id!r}) again "
            "for another attempt.",
            run_id=attempt.run_id,
        )

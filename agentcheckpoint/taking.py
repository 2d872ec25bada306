"""How an attempt begins and ends in the store: the claim, what is loaded by it, and the last commit."""

from __future__ import annotations

import time
from functools import partial

from agentcheckpoint.attempt import Attempt, new_id, new_token
from agentcheckpoint.core import ledger
from agentcheckpoint.core.cursors import Cursors
from agentcheckpoint.core.journal import Journal
from agentcheckpoint.core.lifecycle import about, since_restart
from agentcheckpoint.core.models import (
    About,
    Birth,
    Closed,
    Done,
    Logged,
    Opened,
    Origin,
    Revived,
    Rewound,
    RunState,
)
from agentcheckpoint.core.tries import deaths, run_series
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import AgentCheckpointWarning, RunCancelled
from agentcheckpoint.explain import busy_error, warn, wrong_totals
from agentcheckpoint.options import RunOptions
from agentcheckpoint.results import Results
from agentcheckpoint.store.asking import take_back
from agentcheckpoint.store.claim import Cancelled, Completed, Opening, Taken, open_run
from agentcheckpoint.store.commit import Change
from agentcheckpoint.store.effects import Pause, Protocol
from agentcheckpoint.store.holder import Holder, this_process
from agentcheckpoint.store.index import list_ahead
from agentcheckpoint.store.leases import give_back
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.making import create_run
from agentcheckpoint.store.upkeep import set_totals, sweep


class AlreadyCompleted(Exception):
    """The run is completed, and was to be opened only if it is not."""


def take_run(attempt: Attempt, wait: float, *, counted: bool = True) -> Protocol[None]:
    """Claims the run and loads it, waiting up to ``wait`` seconds for a worker that is alive.

    Args:
        attempt: which run.
        wait: seconds.
        counted: whether it is an attempt of the run; else the run is only changed from outside.

    Raises:
        RunBusy: that worker is still at it.
        Interrupted: this process is to stop while it waits.
        RunCancelled: somebody has asked for the run's end.
        AlreadyCompleted: it is not to be opened then.
        Exception: what ``store.claim.open_run`` raises.
    """
    holder = this_process(attempt.instance)
    attempt.fence.holder = holder.model_dump_json().encode()
    opening = _opening(attempt, holder, counted=counted)
    deadline = time.monotonic() + wait
    while not isinstance(outcome := (yield from open_run(attempt.fence, new_token, opening)), Taken):
        if isinstance(outcome, Cancelled):
            raise cancelled_error(attempt.run_id, outcome.why)
        if isinstance(outcome, Completed):
            raise AlreadyCompleted
        left = deadline - time.monotonic()
        if left <= 0:
            raise busy_error(attempt.run_id, outcome.holder, outcome.ttl)
        yield Pause(min(0.2, left), idle=True)
        attempt.check_stop()
    _take_over(attempt, outcome.loaded)
    if counted and outcome.is_asked_to_end and attempt.state == "completed":  # it had ended before it heard of that
        yield from take_back(attempt.fence)
    yield from _mend_totals(attempt, outcome.loaded)


def make_run(attempt: Attempt) -> Protocol[bool]:
    """Makes the run without beginning it; ``False``: there is one of that id. Raises what ``create_run`` raises."""
    birth, data = birth_of(attempt, attempt.options, attempt.options.input)
    return (yield from create_run(attempt.fence, new_token, birth, data))


def end_attempt(attempt: Attempt, closed: Closed, output: bytes | None = None) -> Protocol[None]:
    """Notes how the attempt ended, stores the output, and gives the lease back."""
    yield from _leave(attempt, closed, closed.state, closed.due, output)


def revive(attempt: Attempt, entry: Revived | Rewound) -> Protocol[None]:
    """Lets a run that was taken to be changed from outside go on from now on, and gives the lease back."""
    yield from _leave(attempt, entry, "retryable", entry.at, None)


def leave_as_it_is(attempt: Attempt) -> Protocol[None]:
    """Gives the lease back of a run that was taken to be changed from outside, and is not to be."""
    yield from give_back(attempt.fence, attempt.fence.token)


def _leave(attempt: Attempt, entry: Logged, state: RunState, due: int | None, output: bytes | None) -> Protocol[None]:
    with attempt.lease_lock:
        attempt.open = False
    fields = {"state": state, "due": "" if due is None else str(due)}
    yield from attempt.store_change(Change(entry, output, fields=fields, release=True))
    if attempt.fence.doubtful:
        yield from sweep(attempt.fence)


def cancelled_error(run_id: str, why: str) -> RunCancelled:
    """The error for the opening of a run that was cancelled."""
    return RunCancelled(
        f"run {run_id!r} was cancelled{f': {why}' if why else ''}. Nothing was run. What it has recorded is kept: "
        f"ac.retry({run_id!r}) lets it go on, on_existing='fresh' begins it anew.",
        run_id=run_id,
    )


def birth_of(
    attempt: Attempt, told: RunOptions | About, data: bytes | None, origin: Origin | None = None
) -> tuple[Birth, bytes | None]:
    """A new run's birth mark, and its arguments as they are stored.

    Args:
        attempt: which run.
        told: what the run is about.
        data: its arguments before any codec.
        origin: which run it is a fork of.
    """
    entry_id, payload = new_id(), None
    if data is not None:
        data, payload = attempt.chain.encode(data, attempt.where("", entry_id))
    birth = Birth(
        id=entry_id,
        at=int(time.time() * 1000),
        namespace=attempt.namespace,
        run=attempt.run_id,
        origin=origin,
        agent=told.agent,
        inputs=told.inputs,
        input=payload,
        metadata=dict(told.metadata) if told.metadata else None,
        conversation=told.conversation,
    )
    return birth, data


def _opening(attempt: Attempt, holder: Holder, *, counted: bool) -> Opening:
    options = attempt.options
    worker, stamp = f"pid {holder.pid} on {holder.host}", int(time.time() * 1000)
    birth, data = birth_of(attempt, options, options.input)

    def entry(number: int) -> Opened:
        return Opened(
            id=new_id(),
            at=stamp,
            attempt=number,
            worker=worker,
            agent=options.agent,
            inputs=options.inputs,
            tags=options.tags or None,
        )

    return Opening(
        birth,
        released_here,
        entry if counted else None,
        data,
        options.on_existing,
        options.unless_completed,
        announce=partial(_announce, attempt) if counted else None,
    )


def _announce(attempt: Attempt, state: str) -> Protocol[None]:
    """A run that is begun by this attempt is listed before it is taken: whoever takes it may die at once."""
    stays = () if attempt.options.on_existing == "fresh" else ("completed",)
    if state not in ("running", "interrupted", *stays):  # these stand in the list
        yield from list_ahead(attempt.namespace, attempt.run_id)


def _take_over(attempt: Attempt, loaded: Loaded) -> None:
    attempt.clock = (loaded.now_ms, time.monotonic())
    current = since_restart(loaded.entries)
    begun = about(current)
    attempt.birth = begun.id if begun is not None else ""
    attempt.journal = Journal(current)
    attempt.cursors = Cursors(loaded.meta, attempt.birth)
    attempt.series = run_series(current)
    attempt.died_before = deaths(current)
    attempt.state = loaded.meta["state"]
    attempt.number = int(loaded.meta["attempt"])
    attempt.money = ledger.fold_entries(ledger.logged_money(loaded.entries))
    attempt.waste = {entry.id: entry for entry in loaded.waste}
    attempt.results = Results(attempt.fence, [e for e in current if isinstance(e, Done)])
    attempt.open = True


def _mend_totals(attempt: Attempt, loaded: Loaded) -> Protocol[None]:
    sums = ledger.totals(attempt.money.values())
    stored = {name: loaded.meta.get(name, "0") for name in sums}
    if stored != {name: str(amount) for name, amount in sums.items()}:
        warn(wrong_totals(attempt.run_id, stored, sums), AgentCheckpointWarning)
        yield from set_totals(attempt.fence, sums)

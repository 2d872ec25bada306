"""A run forked after a step, and a run that goes back to one: ``ac.fork`` and ``ac.rewind``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentcheckpoint.attempt import Attempt, new_id, new_token
from agentcheckpoint.core import ids
from agentcheckpoint.core.codec import UNANNOTATED, result_type
from agentcheckpoint.core.foresight import foresee
from agentcheckpoint.core.ledger import answer_money, fold_entries, logged_money
from agentcheckpoint.core.lifecycle import about, since_restart
from agentcheckpoint.core.models import Birth, Done, Origin, Rewound
from agentcheckpoint.core.standing import find, standing, there_after
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.jobs.ending import taken
from agentcheckpoint.options import RunOptions
from agentcheckpoint.previewing import Preview
from agentcheckpoint.store.asking import take_back
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.copying import Copy, copy_run
from agentcheckpoint.store.index import list_due, list_run
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.reading import read_results, snapshot
from agentcheckpoint.store.store import Store
from agentcheckpoint.store.whole import check_free
from agentcheckpoint.taking import birth_of, leave_as_it_is
from agentcheckpoint.taking import revive as let_go_on

_JSON = (str, int, float, bool, list, dict, type(None))


def fork(
    run_id: str,
    /,
    *,
    after: str,
    as_: str,
    override: Mapping[str, object] | None = None,
    dry_run: bool = False,
    store: Connectable = None,
    namespace: str = "default",
) -> Preview:
    """Makes a new run that has the records of another up to a step. Blocking: on an event loop, ``asyncio.to_thread``.

    The other run is only read; somebody may be at work on it. What the new run takes over it does not pay for. It is
    begun like any other: opened by ``ac.run``; or, if it is an agent's, found by its worker.

    Args:
        run_id: the run to fork.
        after: the last step that is kept, by its name or slot, with all that was recorded by then.
        as_: the name of the new run.
        override: results in place of recorded ones, by step. Each is stored as a step stores its result; it answers
            the same inputs.
        dry_run: only say what would come of it.
        store, namespace: as in ``ac.run``; of both runs.

    Returns:
        What the new run reuses, and what it is likely to buy again.

    Raises:
        RunMisuse: no such step is recorded, or it may be several; or an override would never be met.
        ResultNotStorable: an override cannot be stored.
        RunExists, RunDeleted: ``as_`` is taken.
        RunNotFound: there is no run to fork.
        CheckpointsLost, CheckpointCorrupt, SchemaTooNew, CommitUnknown, StoreRefused, StoreUnavailable.
    """
    where = connect(store)
    source, target = (Attempt(where, name, RunOptions(namespace=namespace)) for name in (run_id, as_))
    loaded: Loaded = where.run(snapshot(source.fence))
    records = standing(since_restart(loaded.entries))
    last = find(records, after, run_id)
    kept = there_after(records, last.id)
    given = _given(kept, override or {}, run_id)
    where.run(check_free(target.fence))
    slots, overridden = {done.slot for done in kept}, {done.slot for done in kept if done.id in given}
    steps = foresee(loaded.entries, loaded.waste, "fork", slots, overridden)
    if not dry_run:
        birth, data = _birth(where, source, target, loaded, Origin(run=run_id, after=last.slot))
        convert = _converting(source, target, loaded, given)
        copy = Copy(source.fence, loaded.token, target.fence, birth, data, kept, given, convert)
        where.run(copy_run(copy, new_token))
        where.run(list_run(namespace, as_, birth.at, birth.at))
    return Preview(as_, namespace, "fork", run_id, last.slot, dry_run, tuple(steps))


def _given(kept: Sequence[Done], override: Mapping[str, object], run_id: str) -> dict[str, bytes]:
    """The results that somebody gives, by the ids of the records that they replace."""
    slots, given = {done.slot for done in kept}, dict[str, bytes]()
    for name, value in override.items():
        done = find(kept, name, run_id)
        if ids.is_inside(done.slot, slots):
            raise RunMisuse(
                f"run {run_id!r}: override={{{name!r}: ...}} would never be met: {done.slot!r} lies inside a step that "
                "is replayed whole. Override that one. Nothing was changed.",
                run_id=run_id,
                step=done.slot,
            )
        kind: Any = UNANNOTATED if type(value) in _JSON else type(value)
        given[done.id], _ = result_type(kind).encode(value)
    return given


def _birth(
    store: Store, source: Attempt, target: Attempt, loaded: Loaded, origin: Origin
) -> tuple[Birth, bytes | None]:
    """The new run's birth mark: it is about the same as the other; and the arguments that are stored of that."""
    begun = about(loaded.entries)
    assert begun is not None  # a load has found it
    data = None
    if begun.input is not None:
        (stored,) = store.run(read_results(source.fence, loaded.token, (begun.id,))).values()
        data = source.chain.decode(stored, begun.input, source.where("", begun.id))
    return birth_of(target, begun, data, origin)


def _converting(
    source: Attempt, target: Attempt, loaded: Loaded, given: Mapping[str, bytes]
) -> Callable[[Done, bytes], tuple[Done, bytes]]:
    money = fold_entries(logged_money(loaded.entries), loaded.waste)

    def convert(done: Done, data: bytes) -> tuple[Done, bytes]:
        is_given = done.id in given
        if not is_given:
            data = source.chain.decode(data, done.payload, source.where(done.slot, done.id))
        data, payload = target.chain.encode(data, target.where(done.slot, done.id))
        bought = () if is_given else tuple(money.get(entry.id, entry) for entry in answer_money(done))
        changes: dict[str, Any] = {"payload": payload, "entries": ()}
        changes |= {"elsewhere": bought, "overridden": True if is_given else done.overridden}
        return replace(done, **changes), data

    return convert


def rewind(
    run_id: str,
    /,
    *,
    after: str,
    dry_run: bool = False,
    store: Connectable = None,
    namespace: str = "default",
) -> Preview:
    """Lets a run go back to where it was after a step, and go on from there. Blocking: on an event loop, use
    ``asyncio.to_thread``.

    What was recorded since then is not replayed, and stays in its log; what it cost stays in its account. Nothing is
    run here: as after ``ac.retry``, it is due for a worker, or is opened by whoever has its code.

    Args:
        run_id: the run's name.
        after: the last step that is kept, by its name or slot, with all that was recorded by then.
        dry_run: only say what would come of it.
        store, namespace: as in ``ac.run``.

    Returns:
        What the run reuses, and what it is likely to buy again.

    Raises:
        RunMisuse: no such step is recorded, or it may be several.
        RunBusy: somebody works on it.
        RunNotFound, RunDeleted, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, CommitUnknown, StoreRefused,
            StoreUnavailable.
    """
    where = connect(store)
    attempt = Attempt(where, run_id, RunOptions(namespace=namespace))
    seen, last = _back(where, attempt, after, dry_run=True)
    if dry_run:
        return seen
    with taken(attempt, where):
        try:
            seen, last = _back(where, attempt, after, dry_run=False)
        except BaseException:
            where.run(leave_as_it_is(attempt))
            raise
        # In this order: if this dies in between, the run is still cancelled, and this can be done again.
        where.run(take_back(attempt.fence))
        now = attempt.now_ms()
        where.run(let_go_on(attempt, Rewound(id=new_id(), at=now, slot=last.slot, target=last.id)))
        where.run(list_due(namespace, run_id, now))
    return seen


def _back(store: Store, attempt: Attempt, after: str, *, dry_run: bool) -> tuple[Preview, Done]:
    """What going back would do, and to which record."""
    loaded: Loaded = store.run(snapshot(attempt.fence))
    records = standing(since_restart(loaded.entries))
    last = find(records, after, attempt.run_id)
    kept = {done.slot for done in there_after(records, last.id)}
    steps = foresee(loaded.entries, loaded.waste, "rewind", kept)
    name, namespace = attempt.run_id, attempt.namespace
    return Preview(name, namespace, "rewind", name, last.slot, dry_run, tuple(steps)), last

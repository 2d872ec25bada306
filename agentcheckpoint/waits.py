"""The course of a wait: begun once, looked at in place for a while, and then left to whoever goes on with the run."""

from __future__ import annotations

import datetime
import functools
import shlex
import time
from typing import Any

from agentcheckpoint.asked import NO_DEFAULT, Wait
from agentcheckpoint.attempt import Attempt, new_id
from agentcheckpoint.core.lifecycle import LOOK_MS
from agentcheckpoint.core.models import MOST, Waiting
from agentcheckpoint.core.waits import Given, parse_given
from agentcheckpoint.errors import RunMisuse, StepMismatch, Suspended, WaitTimeout
from agentcheckpoint.explain import placed
from agentcheckpoint.flow import Course, Flow, Perform
from agentcheckpoint.steps import decide, replay
from agentcheckpoint.store.answers import Offer, Seen, decide_wait, look_at, wake, what_came
from agentcheckpoint.store.commit import Change
from agentcheckpoint.store.due import note_look
from agentcheckpoint.store.effects import Await, Pause, Protocol
from agentcheckpoint.store.index import Listed, list_due
from agentcheckpoint.store.keys import is_token
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.trying import keep_result

POLL = 0.15
"""Seconds between looks at what has come, while a wait is held in place."""


def wait_flow(wait: Wait) -> Flow[Any]:
    """Replays what came of the wait, or waits for it: in place at first, and then by suspending the run.

    Returns the answer in type; of a sleep, nothing.

    Raises:
        WaitTimeout: no answer came in time, and there is no default.
        Suspended: nothing has come yet, and the process need not stay for it.
        StepMismatch: something else was waited for in this slot.
    """
    done = yield from decide(wait)
    parse = functools.partial(parse_given, run_id=wait.attempt.run_id, slot=wait.slot)
    if done is not None:
        given = yield from replay(wait, done, parse)
    else:
        given = parse((yield from _carry_out(wait)))
    return _outcome(wait, given)


def _outcome(wait: Wait, given: Given) -> Any:
    if wait.form is None:
        return None
    if given.what == "answer":
        with placed(wait.attempt.run_id, wait.slot):
            return wait.form.type.decode((given.answer or "").encode())
    if wait.default is not NO_DEFAULT:
        return wait.default
    raise WaitTimeout(
        f"run {wait.attempt.run_id!r}, wait {wait.slot!r}: no answer came in time. That is recorded: it is the same on "
        "every replay. Catch it, or give wait_for a default=.",
        run_id=wait.attempt.run_id,
        step=wait.slot,
    )


def _carry_out(wait: Wait) -> Course[bytes]:
    """Waits, and records what came of it; returns what is recorded."""
    journal = wait.attempt.journal
    try:
        entry = yield from _begun(wait)
        leaves = time.monotonic() + wait.hold
        while True:
            given: Given | None = yield Perform(_watch(wait, entry, leaves))
            if given is None:
                raise suspended(wait, entry)
            if given.what == "answer":
                given, refused = _taken(wait, given)
                if refused is not None:
                    entry = yield from _begin(wait, wait.attempt.now_ms(), entry.until, refused)
                    continue
            data = given.model_dump_json(exclude_none=True).encode()
            ms = max(0, wait.attempt.now_ms() - entry.at)
            return (yield from keep_result(wait, wait.call.inputs, data, min(ms, MOST), (), None)) or data
    finally:
        journal.rise(wait.slot)
        journal.end(wait.call)


def _begun(wait: Wait) -> Course[Waiting]:
    """The wait as it was begun, by whichever attempt; else it begins now."""
    pending = wait.attempt.journal.waits.pending(wait.slot)
    if pending is not None and pending.digest != wait.call.inputs.digest:
        policy = wait.step.on_mismatch or wait.attempt.options.on_mismatch
        if policy == "error":
            raise _other_wait(wait, pending)
        if policy == "rerun":
            yield Perform(_offer(wait, pending, Given(what="withdrawn", at=wait.attempt.now_ms())))
            pending = None
    if pending is None:
        now = wait.attempt.now_ms()
        until = wait.at_ms if wait.span_ms is None else now + wait.span_ms
        pending = yield from _begin(wait, now, until)
    wait.attempt.journal.waits.meet(pending)
    return pending


def _begin(wait: Wait, now: int, until: int | None, refused: str | None = None) -> Course[Waiting]:
    attempt = wait.attempt
    entry = Waiting(
        id=new_id(),
        at=now,
        slot=wait.slot,
        digest=wait.call.inputs.digest,
        until=until if until is None else min(until, MOST),
        answer=wait.form is not None,
        prompt=wait.prompt,
        form=None if wait.form is None else wait.form.text(),
        refused=refused,
    )
    with attempt.journal.waits.beginning():
        yield Perform(attempt.commit(Change(entry), wait.call))
        attempt.journal.waits.tell(entry)
        attempt.journal.waits.meet(entry)
    return entry


def _watch(wait: Wait, entry: Waiting, leaves: float) -> Protocol[Given | None]:
    """What comes of the wait; ``None``: nothing so far, and the run need not stay open for it.

    It stays while anything else is under way in this attempt: what is paid is not cut off.
    """
    attempt = wait.attempt
    while True:
        seen = yield from look_at(attempt.fence, entry.id)
        if seen.given is not None:
            return parse_given(seen.given, attempt.run_id, wait.slot)
        _hear(attempt, seen)
        if attempt.leaving or not attempt.open:
            return None
        attempt.check()
        left = None if entry.until is None else (entry.until - attempt.now_ms()) / 1000
        if left is not None and left <= 0:
            return (yield from _offer(wait, entry, Given(what="time", at=attempt.now_ms())))
        if time.monotonic() >= leaves and attempt.journal.rest(wait.slot):
            return None
        yield Pause(POLL if left is None else min(POLL, left), idle=True)


def _hear(attempt: Attempt, seen: Seen) -> None:
    attempt.fence.hear(seen.cancel)
    head = (seen.head or b"").decode("ascii", "replace")
    if is_token(head) and head not in attempt.fence.issued:
        attempt.fence.heir = head


def _offer(wait: Wait, entry: Waiting, given: Given) -> Protocol[Given]:
    """Ends the wait by something else than an answer, unless an answer was first; returns what counts."""
    fence = wait.attempt.fence

    def choose(loaded: Loaded) -> Offer:
        if loaded.token not in fence.issued:
            fence.heir = loaded.token
            raise fence.lost_to(loaded.token, step=wait.slot)
        return Offer(entry.id, given.model_dump_json(exclude_none=True))

    _, stored = yield from decide_wait(fence, choose)
    return parse_given(stored, wait.attempt.run_id, wait.slot)


def _taken(wait: Wait, given: Given) -> tuple[Given, str | None]:
    """The answer as it is recorded; or why it is none after all, which its form could not say."""
    assert wait.form is not None
    try:
        data, _ = wait.form.take(given.answer or "")
    except ValueError as exc:
        return given, str(exc)[:1000]
    return given.model_copy(update={"answer": data.decode()}), None  # as the type writes it


def suspended(wait: Wait, entry: Waiting) -> Suspended:
    """What unwinds the run until something comes."""
    until = "" if entry.until is None else _moment(entry.until)
    if wait.form is None:
        how = f"it goes on at {until}"
    else:
        command = shlex.join(["agentcheckpoint", "answer", wait.attempt.run_id, wait.slot])
        how = f"it goes on when somebody answers: {command} VALUE{f', or at {until}' if until else ''}"
    return Suspended(f"run {wait.attempt.run_id!r} waits, {wait.slot!r}: {how}.", until_ms=entry.until)


def _moment(ms: int) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms since the epoch"


def _other_wait(wait: Wait, pending: Waiting) -> StepMismatch:
    lines = f"\n  prompt: recorded {pending.prompt!r}, came {wait.prompt!r}" if wait.form is not None else ""
    return StepMismatch(
        f"run {wait.attempt.run_id!r}, wait {wait.slot!r}: it waits for something else than it is called with now."
        f"{lines}\nA text or a time that differs on each attempt does not do: take it from run.now(), or from a step. "
        "Choose: a key (Step(name, key=...)) if these are different waits; on_mismatch='rerun' to wait anew; "
        "on_mismatch='reuse' to go on with the old one.",
        run_id=wait.attempt.run_id,
        step=wait.slot,
    )


def list_waiting(attempt: Attempt, due_ms: int | None) -> Protocol[None]:
    """Notes when a run goes on that has just been suspended: now, if there is an answer that came too late for this
    worker, and whose giver still saw it at work.

    Until that is known, the list says to look soon, since this worker may die first. What a giver notes meanwhile
    stays.
    """
    waits = [entry.id for entry in attempt.journal.waits.open() if entry.answer]
    if not waits:
        yield from list_due(attempt.namespace, attempt.run_id, due_ms)
        return
    look = Listed(attempt.run_id, attempt.now_ms() + LOOK_MS)
    yield from list_due(attempt.namespace, attempt.run_id, look.at_ms)
    if (yield from what_came(attempt.fence, waits)):
        yield from wake(attempt.fence, attempt.now_ms())
    else:
        yield from note_look(attempt.namespace, look, due_ms)


def until_begun(attempt: Attempt) -> Protocol[None]:
    """Waits that are being begun beside the one that suspends the run have their say when it goes on."""
    for begun in attempt.journal.waits.under_way():
        try:
            yield Await(begun)
        except RunMisuse:  # left on the very loop that is to begin it
            return

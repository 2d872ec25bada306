"""Taking a run: the first claim, the claim of an heir, and the claim by which a worker settles its own doubts.

WATCH head, look, and in one EXEC: a new head, the data keys renamed to it, the lease, and a complete load. From then on
every older token writes into names that nothing points to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agentcheckpoint.core.lifecycle import OnExisting
from agentcheckpoint.core.models import Birth, Opened
from agentcheckpoint.errors import CommitUnknown, StoreError, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder
from agentcheckpoint.store.keys import epoch_of
from agentcheckpoint.store.leases import Busy, busy, give_back
from agentcheckpoint.store.loading import (
    LOAD_REPLIES,
    Loaded,
    corrupt,
    load_commands,
    lost_head,
    parse_fields,
    parse_head,
    parse_load,
)
from agentcheckpoint.store.making import (
    attempt_commands,
    birth_commands,
    deleted_error,
    exists_error,
    no_such_run,
    restart_commands,
)
from agentcheckpoint.store.marks import marked_slots, whole_names
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.refusals import NotNow, nothing_applied, raise_refusal, telling


@dataclass(frozen=True, slots=True)
class Foreign:
    """The head is another worker's token."""

    head: str


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such run (any more)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The run is this worker's, and here it is; perhaps somebody has asked for its end."""

    loaded: Loaded
    is_asked_to_end: bool = False


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody has asked for the run's end, and it has not come to it by itself."""

    why: str


class Completed:
    """The run is completed, and is to be opened only if it is not."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a run.

    Attributes:
        birth: its first log entry, if it is new.
        released: tells whether a holder is this very process and has closed that run already.
        entry: builds the log entry of attempt n; ``None``: it is taken to be changed from outside, which is no attempt.
        input: what is kept under the id of its birth, or of its new beginning.
        on_existing: what to make of a run that exists.
        unless_completed: leave one alone that is completed.
        announce: called just before the claim, with the state of the run: ``""`` if it is new.
    """

    birth: Birth
    released: Callable[[Holder], bool]
    entry: Callable[[int], Opened] | None = None
    input: bytes | None = None
    on_existing: OnExisting = "allow"
    unless_completed: bool = False
    announce: Callable[[str], Protocol[None]] | None = None


class _InDoubt(Lost):
    """The EXEC of a claim left, and whether it was applied is unknown."""


@dataclass(slots=True)
class _Look:
    """What stands there before a claim."""

    head: str | None = None
    had_tokens: bool = False
    deleted: bool = False
    state: str = ""
    attempt: int = 0
    lease: bytes | None = None
    ttl: int = 0
    """Milliseconds, as ``PTTL`` says it."""
    cancel: bytes | None = None
    looping: set[str] = field(default_factory=set[str])
    """The slots that have marks: a commit that sets one sets the lease, which is watched."""


def open_run(
    fence: Fence, new_token: Callable[[int], str], opening: Opening
) -> Protocol[Taken | Busy | Cancelled | Completed]:
    """Claims the run for a new attempt, creating it if it is new; or claims it to change it from outside.

    Raises:
        RunNotFound, RunExists: ``on_existing`` says so.
        RunDeleted, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    fence.bind()
    outcome = yield from _take(fence, new_token, opening, Patience())
    assert not isinstance(outcome, Foreign | Gone)
    return outcome


def settle(
    fence: Fence, new_token: Callable[[int], str], patience: Patience | None = None
) -> Protocol[Taken | Foreign | Gone]:
    """Claims the run again for the worker that has it: what its earlier packets did is then known for good."""
    outcome = yield from _take(fence, new_token, None, patience or Patience())
    assert not isinstance(outcome, Busy | Cancelled | Completed)
    return outcome


def _take(
    fence: Fence, new_token: Callable[[int], str], opening: Opening | None, patience: Patience
) -> Protocol[Taken | Busy | Cancelled | Completed | Foreign | Gone]:
    trouble: Exception = NotNow("it kept changing hands")
    doubt = False
    for times, pause in patience.tries():
        try:
            look = yield from _look(fence, opening, times)
            stop = _refuse(fence, look, opening)
            if stop is not None:
                return stop
            if opening is not None and opening.announce is not None:
                yield from opening.announce(look.state)
            token = new_token(epoch_of(look.head or "") + 1)
            outcome = yield from _claim(fence, token, look, opening, times)
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
            doubt = doubt or isinstance(exc, _InDoubt)
            yield Pause(pause)
            continue
        if outcome is not None:
            try:
                return _finish(fence, token, look, outcome)
            except StoreError:
                if opening is not None:
                    yield from give_back(fence, token)
                raise
        # nil: somebody changed head or lease meanwhile; look again
    if doubt:
        raise CommitUnknown(
            f"run {fence.run_id!r}: the server went away while the run was being claimed, and that could not "
            f"be settled ({trouble}). Nothing is lost: open the run again when the server is back.",
            run_id=fence.run_id,
        )
    advice = (
        " Nothing was paid and nothing was written by this attempt to open it. Is the server up, and is the URL right?"
    )
    raise StoreUnavailable(
        f"run {fence.run_id!r}: the store could not be asked for it in several tries: {trouble}."
        f"{advice if opening is not None else ''}",
        run_id=fence.run_id,
    )


def _claim(
    fence: Fence, token: str, look: _Look, opening: Opening | None, patience: int
) -> Protocol[Sequence[Reply] | None]:
    """EXEC's replies; ``None`` if what it watched has changed."""
    fence.issue(token)
    commands = _claim_commands(fence, token, look, opening)
    try:
        replies = yield Packet(commands, held=True, patience=patience)
    except Lost as exc:
        raise _InDoubt(str(exc), timed_out=exc.timed_out) from exc
    if isinstance(replies[-1], Refusal) and not nothing_applied(replies):
        raise _InDoubt(str(telling(replies)))
    _raise_if_refused(fence, commands, replies)
    return executed(replies)


def _look(fence: Fence, opening: Opening | None, patience: int) -> Protocol[_Look]:
    keys = fence.keys
    # In this order: a run that is made or deleted between two of these is not taken for one that lost its head.
    first = (("LLEN", keys.tokens), ("WATCH", keys.head), ("GET", keys.head), ("EXISTS", keys.tomb))
    replies = yield Packet(first, held=True, patience=patience)
    _raise_if_refused(fence, first, replies)
    tokens, _, head, tomb = replies
    look = _Look(parse_head(fence.run_id, keys.head, head), tokens > 0, tomb > 0)
    if look.head is None or opening is None:
        return look
    lease = keys.lease(look.head)
    held: tuple[Command, ...] = (("WATCH", lease, keys.cancel), ("GET", lease), ("PTTL", lease))
    second = (*held, ("GET", keys.cancel), ("HGETALL", keys.meta(look.head)), ("GET", keys.head))
    replies = yield Packet(second, held=True, patience=patience)
    _raise_if_refused(fence, second, replies)
    _, look.lease, look.ttl, look.cancel, flat, still = replies
    if still != head:  # taken meanwhile: what it was called is renamed, and not gone
        raise NotNow("it kept changing hands")
    fields = parse_fields(fence.run_id, keys.meta(look.head), flat)
    look.looping = marked_slots(fields)
    look.state, look.attempt = fields["state"], int(fields["attempt"])
    return look


def _refuse(fence: Fence, look: _Look, opening: Opening | None) -> Busy | Cancelled | Completed | Foreign | Gone | None:
    """Why the run may not be claimed, if there is a reason."""
    if look.head is None:
        return _refuse_new(fence, look, opening)
    if look.head in fence.issued:
        return None
    if opening is None:
        return Foreign(look.head)
    if opening.on_existing == "never":
        raise exists_error(fence, look.state, look.attempt)
    if look.lease is not None:
        who = busy(fence.run_id, fence.keys.lease(look.head), look.lease, look.ttl, opening.released)
        if who is not None:
            return who
    if opening.entry is None or opening.on_existing == "fresh":
        return None
    if look.state == "completed":
        return Completed() if opening.unless_completed else None
    asked = look.cancel is not None or look.state == "cancelled"
    return Cancelled((look.cancel or b"").decode("utf-8", "replace")) if asked else None


def _refuse_new(fence: Fence, look: _Look, opening: Opening | None) -> Gone | None:
    """The same where there is no such run."""
    if look.deleted and opening is not None:
        raise deleted_error(fence)
    if look.had_tokens:
        raise lost_head(fence.run_id, fence.keys.head)
    if opening is not None and (opening.entry is None or opening.on_existing == "must"):
        raise no_such_run(fence)
    return None if opening is not None else Gone()


def _claim_commands(fence: Fence, token: str, look: _Look, opening: Opening | None) -> tuple[Command, ...]:
    keys = fence.keys
    commands: list[Command] = [("MULTI",), ("SET", keys.head, token), ("RPUSH", keys.tokens, token)]
    if look.head is not None:
        names = (whole_names(keys, name, look.looping | fence.looping) for name in (look.head, token))
        for one, other in zip(*names, strict=True):
            commands += [("RENAME", one, other), ("PERSIST", other)]  # RENAME carries a TTL along
        commands.append(("DEL", keys.lease(look.head)))
    elif opening is not None:
        commands += birth_commands(keys, token, opening.birth, opening.input)
    if opening is not None and opening.entry is not None and look.head not in fence.issued[:-1]:
        fresh = look.head is not None and opening.on_existing == "fresh"
        if fresh:
            commands += restart_commands(keys, token, opening.birth, opening.input)
        state = "completed" if look.state == "completed" and not fresh else "running"
        commands += attempt_commands(keys, token, opening.entry(look.attempt + 1), state)
    commands.append(("SET", keys.lease(token), fence.holder, "PX", fence.ttl_ms))
    return (*commands, *load_commands(keys, token), ("EXEC",))


def _finish(fence: Fence, token: str, look: _Look, replies: Sequence[Reply]) -> Taken:
    """The claim was applied. RENAME's error for a missing key is no verdict: the birth marks are."""
    loaded = parse_load(fence.keys, fence.namespace, fence.run_id, token, replies[-LOAD_REPLIES:])
    for reply in replies[:-LOAD_REPLIES]:
        if isinstance(reply, Refusal) and "no such key" not in reply.text:
            raise corrupt(fence.run_id, fence.keys.head, f"the server answered {reply}")
    if fence.token and look.head in fence.issued and not fence.is_outrun(token):
        older = fence.issued.index(look.head or "") < fence.issued.index(fence.token)
        fence.went_back = fence.went_back or older
    fence.loaded(token, len(loaded.entries), loaded.results, loaded.ids)
    fence.looping |= marked_slots(loaded.meta)
    return Taken(loaded, look.cancel is not None)


def _raise_if_refused(fence: Fence, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(fence.run_id, commands, replies)

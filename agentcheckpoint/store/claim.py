"""Taking a run: the first claim, the claim of an heir, and the claim by which a worker settles its own doubts.

WATCH head, look, and in one EXEC: a new head, the data keys renamed to it, the lease, and a complete load. From then on
every older token writes into names that nothing points to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from agentcheckpoint.core.models import SCHEMA, Birth, Opened
from agentcheckpoint.errors import CommitUnknown, RunDeleted, StoreError, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.holder import Holder, provably_dead
from agentcheckpoint.store.keys import BIRTH, epoch_of
from agentcheckpoint.store.loading import (
    LOAD_REPLIES,
    META,
    Loaded,
    corrupt,
    load_commands,
    lost_head,
    parse_head,
    parse_load,
    parse_meta,
)
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.refusals import NotNow, nothing_applied, raise_refusal, telling

_NEVER = -1
"""What ``PTTL`` says of a key that does not expire."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody who is not provably dead holds the lease."""

    holder: Holder | None
    ttl: float


@dataclass(frozen=True, slots=True)
class Foreign:
    """The head is another worker's token."""

    head: str


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such run (any more)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The run is this worker's, and here it is."""

    loaded: Loaded


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a run as a new attempt of it.

    ``entry`` builds the log entry of attempt n; ``released`` tells whether a holder is this very process and has
    closed that run already.
    """

    birth: Birth
    entry: Callable[[int], Opened]
    released: Callable[[Holder], bool]


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


def open_run(fence: Fence, new_token: Callable[[int], str], opening: Opening) -> Protocol[Taken | Busy]:
    """Claims the run for a new attempt, creating it if it is new.

    Raises:
        RunDeleted, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    fence.bind()
    outcome = yield from _take(fence, new_token, opening, Patience())
    assert isinstance(outcome, Taken | Busy)
    return outcome


def settle(
    fence: Fence, new_token: Callable[[int], str], patience: Patience | None = None
) -> Protocol[Taken | Foreign | Gone]:
    """Claims the run again for the worker that has it: what its earlier packets did is then known for good."""
    outcome = yield from _take(fence, new_token, None, patience or Patience())
    assert not isinstance(outcome, Busy)
    return outcome


def _take(
    fence: Fence, new_token: Callable[[int], str], opening: Opening | None, patience: Patience
) -> Protocol[Taken | Busy | Foreign | Gone]:
    trouble: Exception = NotNow("it kept changing hands")
    doubt = False
    for times, pause in patience.tries():
        try:
            look = yield from _look(fence, opening, times)
            stop = _refuse(fence, look, opening)
            if stop is not None:
                return stop
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


def give_back(fence: Fence, token: str) -> Protocol[None]:
    """Ends the lease of this token: who cannot go on, or has ended, keeps nobody waiting."""
    try:
        yield Packet((("DEL", fence.keys.lease(token)),))
    except (NotSent, Lost):
        return  # it runs out


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
    meta = ("HMGET", keys.meta(look.head), *META)
    second: tuple[Command, ...] = (("WATCH", lease), ("GET", lease), ("PTTL", lease), meta, ("GET", keys.head))
    replies = yield Packet(second, held=True, patience=patience)
    _raise_if_refused(fence, second, replies)
    _, look.lease, look.ttl, values, still = replies
    if still != head:  # taken meanwhile: what it was called is renamed, and not gone
        raise NotNow("it kept changing hands")
    fields = parse_meta(fence.run_id, keys.meta(look.head), values)
    look.state, look.attempt = fields["state"], int(fields["attempt"])
    return look


def _refuse(fence: Fence, look: _Look, opening: Opening | None) -> Busy | Foreign | Gone | None:
    """Why the run may not be claimed, if there is a reason."""
    if look.head is None:
        if look.deleted and opening is not None:
            raise RunDeleted(
                f"run {fence.run_id!r} was deleted. Its id stays taken, so that a worker that was paused since then "
                "cannot mistake a new run for its own: use another id.",
                run_id=fence.run_id,
            )
        if look.had_tokens:
            raise lost_head(fence.run_id, fence.keys.head)
        return None if opening is not None else Gone()
    if look.head in fence.issued:
        return None
    if opening is None:
        return Foreign(look.head)
    if look.lease is None:
        return None
    return busy(fence.run_id, fence.keys.lease(look.head), look.lease, look.ttl, opening.released)


def busy(run_id: str, key: str, lease: bytes, ttl_ms: int, released: Callable[[Holder], bool]) -> Busy | None:
    """Who holds this lease, unless he has released it or is provably dead.

    One that cannot be read may be a later version's, and runs out.

    Raises:
        CheckpointCorrupt: it never would.
    """
    if ttl_ms == _NEVER:
        raise corrupt(run_id, key, "it never expires")
    ttl = max(ttl_ms, 0) / 1000
    try:
        holder = Holder.model_validate_json(lease)
    except ValidationError:
        return Busy(None, ttl)
    return None if released(holder) or provably_dead(holder) else Busy(holder, ttl)


def _claim_commands(fence: Fence, token: str, look: _Look, opening: Opening | None) -> tuple[Command, ...]:
    keys = fence.keys
    commands: list[Command] = [("MULTI",), ("SET", keys.head, token), ("RPUSH", keys.tokens, token)]
    if look.head is not None:
        for old, new in zip(keys.data(look.head), keys.data(token), strict=True):
            commands += [("RENAME", old, new), ("PERSIST", new)]  # RENAME carries a TTL along
        commands.append(("DEL", keys.lease(look.head)))
    elif opening is not None:
        birth = opening.birth
        commands.append(("RPUSH", keys.log(token), birth.model_dump_json()))
        commands.append(("HSET", keys.results(token), BIRTH, birth.id))
        commands.append(("HSET", keys.meta(token), BIRTH, birth.id, "created", birth.at))
    if opening is not None and look.head not in fence.issued[:-1]:  # else a lost reply: that attempt is noted
        entry = opening.entry(look.attempt + 1)
        commands.append(("RPUSH", keys.log(token), entry.model_dump_json(exclude_none=True)))
        state = "completed" if look.state == "completed" else "running"
        commands.append(("HSET", keys.meta(token), "schema", SCHEMA, "attempt", look.attempt + 1, "state", state))
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
    return Taken(loaded)


def _raise_if_refused(fence: Fence, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(fence.run_id, commands, replies)

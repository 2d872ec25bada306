"""Making a run: its birth marks and what it is about; and making one without beginning it, for a worker to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields

from agentcheckpoint.core.models import SCHEMA, About, Birth, Opened, Restarted, line_of
from agentcheckpoint.errors import CommitUnknown, RunDeleted, RunExists, RunNotFound, StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, executed
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import BIRTH, RunKeys
from agentcheckpoint.store.loading import lost_head, parse_head
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.refusals import NotNow, nothing_applied, raise_refusal


def birth_commands(keys: RunKeys, token: str, birth: Birth, data: bytes | None) -> Iterator[Command]:
    """A new run: its birth marks, and what it is about."""
    yield ("RPUSH", keys.log(token), line_of(birth))
    stored = () if data is None else (birth.id, data)
    yield ("HSET", keys.results(token), BIRTH, birth.id, *stored)
    yield born_command(keys, token, birth)


def born_command(keys: RunKeys, token: str, birth: Birth) -> Command:
    """The birth mark beside the log, and what the run is about."""
    return ("HSET", keys.meta(token), BIRTH, birth.id, "created", birth.at, *about_fields(birth))


def unbegun_command(keys: RunKeys, token: str, birth: Birth) -> Command:
    """Nobody has begun the run; a worker that finds it may."""
    return ("HSET", keys.meta(token), "schema", SCHEMA, "attempt", 0, "state", "waiting", "due", birth.at)


def restart_commands(keys: RunKeys, token: str, birth: Birth, data: bytes | None) -> Iterator[Command]:
    """A run is begun afresh: what it is about now. Nothing of what it was asked before holds any more."""
    restarted = Restarted(**{field.name: getattr(birth, field.name) for field in fields(About)})
    yield ("RPUSH", keys.log(token), line_of(restarted))
    yield ("DEL", keys.cancel, keys.answers)
    if data is not None:
        yield ("HSET", keys.results(token), restarted.id, data)
    yield ("HSET", keys.meta(token), *about_fields(restarted))


def attempt_commands(keys: RunKeys, token: str, entry: Opened, state: str) -> Iterator[Command]:
    """A new attempt is noted."""
    yield ("RPUSH", keys.log(token), line_of(entry))
    yield ("HSET", keys.meta(token), "schema", SCHEMA, "attempt", entry.attempt, "state", state, "due", "")


def about_fields(about: About) -> tuple[str, ...]:
    """Copies of what the log says, which each load compares."""
    return "begun", about.id, "agent", about.agent or "", "conversation", about.conversation or ""


def no_such_run(fence: Fence) -> RunNotFound:
    """The error for a run that was to be there."""
    return RunNotFound(
        f"run {fence.run_id!r} in namespace {fence.namespace!r}: there is no such run in this store.",
        run_id=fence.run_id,
    )


def exists_error(fence: Fence, state: str, attempts: int) -> RunExists:
    """The error for a run that was to be new."""
    return RunExists(
        f"run {fence.run_id!r} exists already ({state}, {attempts} attempt(s)), and on_existing='never' was asked for. "
        "Nothing was changed: use another id, or leave on_existing out to go on with it.",
        run_id=fence.run_id,
    )


def deleted_error(fence: Fence) -> RunDeleted:
    """The error for an id whose run was deleted."""
    return RunDeleted(
        f"run {fence.run_id!r} was deleted. Its id stays taken, so that a worker that was paused since then "
        "cannot mistake a new run for its own: use another id.",
        run_id=fence.run_id,
    )


def create_run(fence: Fence, new_token: Callable[[int], str], birth: Birth, data: bytes | None) -> Protocol[bool]:
    """Makes a run that waits for a worker. Made twice, it is there once.

    Returns:
        Whether it was made now; ``False``: there is one of that id.

    Raises:
        RunDeleted, CheckpointsLost, CheckpointCorrupt, CommitUnknown, StoreRefused, StoreUnavailable.
    """
    trouble: Exception = NotNow("it kept changing hands")
    patience, doubt = Patience(), False
    for times, pause in patience.tries():
        try:
            made = yield from _create(fence, new_token, birth, data, times)
        except (NotSent, Lost, NotNow) as exc:
            trouble, doubt = exc, doubt or isinstance(exc, Lost)
            patience.note(exc)
            yield Pause(pause)
            continue
        if made is not None:
            return made
    where = f"run {fence.run_id!r}"
    if doubt:
        raise CommitUnknown(
            f"{where}: the server went away before it said whether the run was made ({trouble}). Do it again: a run "
            "is made once.",
            run_id=fence.run_id,
        )
    raise StoreUnavailable(f"{where}: it could not be made in several tries: {trouble}.", run_id=fence.run_id)


def _create(
    fence: Fence, new_token: Callable[[int], str], birth: Birth, data: bytes | None, times: int
) -> Protocol[bool | None]:
    """Whether it was made; ``None``: somebody came between."""
    keys = fence.keys
    look: tuple[Command, ...] = (("LLEN", keys.tokens), ("WATCH", keys.head), ("GET", keys.head), ("EXISTS", keys.tomb))
    replies = yield Packet(look, held=True, patience=times)
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(fence.run_id, look, replies)
    had_tokens, _, reply, deleted = replies
    head = parse_head(fence.run_id, keys.head, reply)
    if head is not None:
        return head in fence.issued
    if deleted:
        raise deleted_error(fence)
    if had_tokens:
        raise lost_head(fence.run_id, keys.head)
    token = new_token(1)
    fence.issue(token)
    first: tuple[Command, ...] = (("MULTI",), ("SET", keys.head, token), ("RPUSH", keys.tokens, token))
    commands = (*first, *birth_commands(keys, token, birth, data), unbegun_command(keys, token, birth), ("EXEC",))
    replies = yield Packet(commands, held=True, patience=times)
    if isinstance(replies[-1], Refusal):
        if nothing_applied(replies):
            raise_refusal(fence.run_id, commands, replies)
        raise Lost(str(replies[-1]))
    return True if executed(replies) is not None else None

"""Exchanges with the server that may be made again, until one of them has an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentcheckpoint.errors import StoreUnavailable
from agentcheckpoint.store.effects import Command, Lost, NotSent, Packet, Pause, Protocol, Refusal, Reply, T
from agentcheckpoint.store.patience import Patience
from agentcheckpoint.store.refusals import NotNow, raise_refusal


def exchange(run_id: str, commands: tuple[Command, ...], times: int, *, held: bool = True) -> Protocol[list[Reply]]:
    """The replies to one packet, none of which is a refusal.

    Args:
        run_id: for messages.
        commands: the packet.
        times: by how much to multiply its time-out.
        held: on the connection that watches for this course, and keeps watching.

    Raises:
        NotSent, Lost, NotNow: another try may do.
        CheckpointCorrupt, StoreRefused.
    """
    return answered(run_id, commands, (yield Packet(commands, held=held, patience=times)))


def answered(run_id: str, commands: Sequence[Command], replies: list[Reply]) -> list[Reply]:
    """The replies, if none of them is a refusal. Raises ``NotNow``, ``CheckpointCorrupt``, ``StoreRefused``."""
    if any(isinstance(reply, Refusal) for reply in replies):
        raise_refusal(run_id, commands, replies)
    return replies


def persist(run_id: str, once: Callable[[int], Protocol[T | None]], failed: str, advice: str = "") -> Protocol[T]:
    """Does what may be done twice until it has an answer.

    Args:
        run_id: for messages.
        once: one try, given by how much to multiply its time-outs; ``None``: somebody came between, and it has to look
            again.
        failed: what could not be done, for the message.
        advice: what to do then.

    Raises:
        StoreUnavailable: the tries, or the time for them, were used up.
        Exception: what ``once`` raises, but for ``NotSent``, ``Lost`` and ``NotNow``.
    """
    trouble: Exception = NotNow("it kept changing hands")
    patience = Patience()
    for times, pause in patience.tries():
        try:
            outcome = yield from once(times)
        except (NotSent, Lost, NotNow) as exc:
            trouble = exc
            patience.note(exc)
            yield Pause(pause)
            continue
        if outcome is not None:
            return outcome
    raise StoreUnavailable(f"run {run_id!r}: {failed} in several tries: {trouble}.{advice}", run_id=run_id)

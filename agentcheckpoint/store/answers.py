"""What came of a run's waits: one field for each, beside the run's data. Whoever writes it first decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agentcheckpoint.core.lifecycle import LOOK_MS, since_restart
from agentcheckpoint.core.waits import Waits
from agentcheckpoint.store.effects import Command, Protocol, executed
from agentcheckpoint.store.index import list_due
from agentcheckpoint.store.loading import Loaded, parse_head
from agentcheckpoint.store.persisting import exchange, persist
from agentcheckpoint.store.reading import Address, ask, snapshot

WAKEABLE = frozenset({"waiting", "running", "interrupted"})
"""The states of a run that goes on by an answer: in any other, nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker that waits looks at: what came of it, whether the run's end is asked for, and the head."""

    given: bytes | None
    cancel: bytes | None
    head: bytes | None


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be written of a wait, unless something is written already.

    Attributes:
        wait_id: the id of its entry.
        line: what came of it.
        wakes: a run that waits is to go on now.
    """

    wait_id: str
    line: str
    wakes: bool = False


def look_at(address: Address, wait_id: str) -> Protocol[Seen]:
    """What a worker that waits wants to know. Raises ``CheckpointCorrupt``, ``StoreRefused``, ``StoreUnavailable``."""
    keys = address.keys
    given, cancel, head = yield from ask(
        address, (("HGET", keys.answers, wait_id), ("GET", keys.cancel), ("GET", keys.head))
    )
    return Seen(given, cancel, head)


def what_came(address: Address, wait_ids: Iterable[str]) -> Protocol[dict[str, bytes]]:
    """What came of these waits, of those that something came of. Raises what ``look_at`` does."""
    wanted = tuple(wait_ids)
    if not wanted:
        return {}
    (values,) = yield from ask(address, (("HMGET", address.keys.answers, *wanted),))
    return {wait_id: value for wait_id, value in zip(wanted, values, strict=True) if value is not None}


def is_answered(address: Address) -> Protocol[bool]:
    """Whether something came of a wait that the run is still to hear. Raises what ``snapshot`` raises."""
    loaded = yield from snapshot(address)
    waits = Waits(since_restart(loaded.entries)).open()
    return bool((yield from what_came(address, [entry.id for entry in waits if entry.answer])))


def decide_wait(address: Address, choose: Callable[[Loaded], Offer]) -> Protocol[tuple[Offer, bytes]]:
    """Writes what came of a wait, if nothing is written yet and the run has not changed hands since it was read.

    Sending it twice writes it once.

    Args:
        address: which run.
        choose: what to write, by how the run stands; it may be called again, and raises what is wrong.

    Returns:
        What was to be written, and what is stored now: the same, or what somebody else wrote before.

    Raises:
        RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """

    def once(times: int) -> Protocol[tuple[Offer, bytes] | None]:
        keys = address.keys
        yield from exchange(address.run_id, (("WATCH", keys.head),), times)
        loaded = yield from snapshot(address)
        offer = choose(loaded)
        field: tuple[str, str] = (keys.answers, offer.wait_id)
        write: tuple[Command, ...] = (("HSETNX", *field, offer.line), ("HGET", *field))
        if offer.wakes and loaded.meta["state"] in WAKEABLE:
            # Whoever answers may die before he lists the run: it is looked at soon, in any case.
            yield from list_due(address.namespace, address.run_id, loaded.now_ms + LOOK_MS)
            write = (("HSET", keys.meta(loaded.token), "due", loaded.now_ms), *write)
        outcome = executed((yield from exchange(address.run_id, (("MULTI",), *write, ("EXEC",)), times)))
        return None if outcome is None else (offer, outcome[-1])

    advice = " Do it again: only the first answer counts, and the same one twice is one."
    return (yield from persist(address.run_id, once, "what came of its wait could not be stored", advice))


def wake(address: Address, now_ms: int) -> Protocol[bool]:
    """Lets a run that waits go on now: whoever looks for work finds it. Returns whether it waits, or may.

    Raises:
        CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """

    def once(times: int) -> Protocol[bool | None]:
        keys = address.keys
        _, reply = yield from exchange(address.run_id, (("WATCH", keys.head), ("GET", keys.head)), times)
        head = parse_head(address.run_id, keys.head, reply)
        if head is None:
            return False
        (state,) = yield from exchange(address.run_id, (("HGET", keys.meta(head), "state"),), times)
        if not isinstance(state, bytes) or state.decode("ascii", "replace") not in WAKEABLE:
            return False
        commands: tuple[Command, ...] = (("MULTI",), ("HSET", keys.meta(head), "due", now_ms), ("EXEC",))
        return True if executed((yield from exchange(address.run_id, commands, times))) is not None else None

    advice = " Give the same answer again, or open the run."
    failed = "it is answered, and could not be let go on"
    waits = yield from persist(address.run_id, once, failed, advice)
    return waits and (yield from list_due(address.namespace, address.run_id, now_ms))

"""The items that an unordered loop has done: a hash under the token for each such loop that is under way.

A field for each item, the digest of its key; its value names the pass over the items that has marked it. Field ``@`` is
there from the first packet on, so that a hash which is gone is never taken for an empty one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agentcheckpoint.core.cursors import FIELD, parse_cursor
from agentcheckpoint.errors import CheckpointsLost
from agentcheckpoint.store.effects import Command, Protocol, Refusal, Reply
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import BIRTH, RunKeys
from agentcheckpoint.store.loading import corrupt
from agentcheckpoint.store.reading import read_following


@dataclass(slots=True)
class Marks:
    """Items to be marked with the position of their loop.

    Attributes:
        slot: the loop's.
        digests: of the items' keys.
        by: which pass over the items has done them.
        known: how many fields the hash has, as far as is known; 0: it is to be made.
        twice: filled in: an item among them had been marked already.
    """

    slot: str
    digests: Sequence[str]
    by: str
    known: int
    twice: bool = False

    @property
    def most(self) -> int:
        """How many fields there are if all of them are new."""
        return self.known + len(self.digests) + (self.known == 0)


def mark_commands(keys: RunKeys, token: str, marks: Marks) -> Iterator[Command]:
    """Marks the items; what is left of an earlier loop of that slot goes first."""
    name = keys.marks(token, marks.slot)
    born: tuple[str | int, ...] = () if marks.known else (BIRTH, 0)
    if born:
        yield ("UNLINK", name)
    yield ("HSET", name, *born, *(part for digest in marks.digests for part in (digest, marks.by)))
    yield ("HLEN", name)


def check_marks(fence: Fence, marks: Marks, added: Reply, size: Reply) -> None:
    """Looks at the replies to ``HSET`` and ``HLEN``.

    Raises:
        CheckpointsLost: marks are gone that were there.
    """
    # None added: the packet had been applied before it was sent again.
    if size - added != marks.known and not (added == 0 and marks.known <= size <= marks.most):
        raise _lost(fence, marks.slot, marks.known, size - added)
    marks.twice = size < marks.most


def read_marks(fence: Fence, slot: str, digests: Sequence[str], least: int) -> Protocol[tuple[list[str | None], int]]:
    """By which pass each item was marked, and how many fields there are.

    Args:
        fence: this worker's right to the run.
        slot: the loop's.
        digests: of the items' keys.
        least: how many fields there are, as far as is known.

    Raises:
        LeaseLost, RunNotFound, CheckpointsLost, CheckpointCorrupt, StoreRefused, StoreUnavailable.
    """
    keys = fence.keys

    def questions(token: str) -> tuple[Command, ...]:
        name = keys.marks(token, slot)
        return ("HMGET", name, *digests), ("HLEN", name), ("GET", keys.head)

    head, (marked, size, _) = yield from read_following(fence, fence.token, questions)
    if head not in fence.issued:
        fence.heir = head
        raise fence.lost_to(head, step=slot)
    if isinstance(size, Refusal):
        raise corrupt(fence.run_id, keys.marks(head, slot), f"the server answered {size}")
    if size < least:
        raise _lost(fence, slot, least, size)
    return [None if by is None else by.decode("ascii", "replace") for by in marked], size


def marked_slots(fields: Mapping[str, str]) -> set[str]:
    """The slots of unordered loops, stale ones among them: by the fields of ``meta``."""
    found = set[str]()
    for name in (name for name in fields if name.startswith(FIELD)):
        with suppress(ValueError):  # a load says so
            if parse_cursor(name, fields[name]).kind == "unordered":
                found.add(name.removeprefix(FIELD))
    return found


def whole_names(keys: RunKeys, token: str, slots: Iterable[str]) -> tuple[str, ...]:
    """The keys that a claim renames, those of loops that are under way among them."""
    return (*keys.data(token), *(keys.marks(token, slot) for slot in sorted(slots)))


def _lost(fence: Fence, slot: str, known: int, size: int) -> CheckpointsLost:
    return CheckpointsLost(
        f"run {fence.run_id!r}, step {slot!r}: {known} marks of its items were stored, and there are {size}. The store "
        "has lost what it had acknowledged (evicted, rolled back or deleted by somebody else). Check maxmemory-policy "
        "(noeviction), persistence, and who uses the keys 'ac:*'.",
        run_id=fence.run_id,
        step=slot,
    )

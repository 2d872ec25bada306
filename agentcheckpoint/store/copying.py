"""Copying a run's records into a new run, in pieces that fit into a packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from agentcheckpoint.core.models import Birth, Done, line_of
from agentcheckpoint.store.effects import Command, Protocol
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import BIRTH
from agentcheckpoint.store.making import born_command, unbegun_command
from agentcheckpoint.store.reading import Address, read_results
from agentcheckpoint.store.whole import MOST, PIECE, Draft, make_whole, write_piece


@dataclass(frozen=True, slots=True)
class Copy:
    """What is copied.

    Attributes:
        source: the run that it comes from.
        token: where its results were last seen.
        target: the new run.
        birth, input: its birth mark, and what is kept under the id of that.
        records: the source's, in order.
        given: the results of those that are not asked of the source, by id.
        convert: the new run's record and result bytes, for one of the source's.
    """

    source: Address
    token: str
    target: Fence
    birth: Birth
    input: bytes | None
    records: Sequence[Done]
    given: dict[str, bytes]
    convert: Callable[[Done, bytes], tuple[Done, bytes]]


def copy_run(copy: Copy, new_token: Callable[[int], str]) -> Protocol[None]:
    """Makes the new run, whole or not at all. Raises what ``make_whole`` does.

    Raises:
        RunNotFound: the source was deleted meanwhile.
    """
    return make_whole(Draft(copy.target, partial(_copy, copy), partial(_begin, copy)), new_token)


def _copy(copy: Copy, token: str, times: int) -> Protocol[tuple[int, int]]:
    data = () if copy.input is None else (copy.birth.id, copy.input)
    yield from write_piece(copy.target, token, (line_of(copy.birth),), (BIRTH, copy.birth.id, *data), times)
    for piece in _pieces(copy.records):
        wanted = [done.id for done in piece if done.id not in copy.given]
        found = (yield from read_results(copy.source, copy.token, wanted)) if wanted else {}
        made = [copy.convert(done, copy.given.get(done.id) or found[done.id]) for done in piece]
        pairs = [part for done, result in made for part in (done.id, result)]
        yield from write_piece(copy.target, token, [line_of(done) for done, _ in made], pairs, times)
    size = 1 + len(copy.records)
    return size, size + (copy.input is not None)


def _begin(copy: Copy, token: str) -> tuple[Command, ...]:
    keys = copy.target.keys
    return born_command(keys, token, copy.birth), unbegun_command(keys, token, copy.birth)


def _pieces(records: Sequence[Done]) -> Iterator[list[Done]]:
    """The records, so many at a time that their results fit into one packet; one that is larger goes alone."""
    piece, size = list[Done](), 0
    for done in records:
        if piece and (size + done.payload.size > PIECE or len(piece) == MOST):
            yield piece
            piece, size = [], 0
        piece.append(done)
        size += done.payload.size
    if piece:
        yield piece

"""A run as it is stored, for a file; and a file's run, to be made anew. Results come and go in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentcheckpoint.core.ledger import fold_entries, logged_money, totals
from agentcheckpoint.core.lifecycle import about
from agentcheckpoint.core.models import About, Birth, payload_of
from agentcheckpoint.store.effects import Command, Protocol, Refusal, Reply
from agentcheckpoint.store.fence import Fence
from agentcheckpoint.store.keys import BIRTH, RunKeys
from agentcheckpoint.store.loading import Loaded, corrupt, load_commands, parse_load
from agentcheckpoint.store.making import about_fields, born_command
from agentcheckpoint.store.reading import Address, read_results, read_under_head
from agentcheckpoint.store.whole import MOST, PIECE, Draft, write_piece

DERIVED = frozenset({BIRTH, "created", "begun", "agent", "conversation", "paid", "wasted"})
"""The fields of ``meta`` that follow from the log. The others tell how the run stands: its state, its cursors."""
_TOKEN = "1.0"


@dataclass(frozen=True, slots=True)
class Stored:
    """All that is stored of a run but its results, at one moment.

    Attributes:
        loaded: the run, checked.
        lines: its log as it is stored, with the fields that this version does not know.
        waste, answers: what lies beside it: by attempt id, by id of the wait.
        cancel: the reason for which somebody has asked for its end.
    """

    loaded: Loaded
    lines: tuple[bytes, ...]
    waste: dict[str, bytes]
    answers: dict[str, bytes]
    cancel: bytes | None


def read_stored(address: Address) -> Protocol[Stored]:
    """The run, whoever works on it.

    Raises:
        RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    keys = address.keys
    beside: tuple[Command, ...] = (("HGETALL", keys.answers), ("GET", keys.cancel))
    head, replies = yield from read_under_head(address, lambda head: (*beside, *load_commands(keys, head)))
    (answers, cancel), rest = replies[:2], replies[2:]
    for name, reply in ((keys.answers, answers), (keys.cancel, cancel)):
        if isinstance(reply, Refusal):
            raise corrupt(address.run_id, name, f"the server answered {reply}")
    loaded = parse_load(keys, address.namespace, address.run_id, head, rest)
    return Stored(loaded, tuple(rest[0]), _pairs(rest[4]), _pairs(answers), cancel)


def stands(loaded: Loaded) -> dict[str, str]:
    """What does not follow from the log."""
    return {name: text for name, text in loaded.meta.items() if name not in DERIVED}


def read_pages(address: Address, loaded: Loaded) -> Iterator[Protocol[dict[str, bytes]]]:
    """The results of a run in the order of its log: one reading for each page, to be run in turn."""
    page, size = list[str](), 0
    for entry in loaded.entries:
        payload = payload_of(entry)
        if payload is None:
            continue
        if page and (size + payload.size > PIECE or len(page) == MOST):
            yield read_results(address, loaded.token, page)
            page, size = [], 0
        page.append(entry.id)
        size += payload.size
    if page:
        yield read_results(address, loaded.token, page)


@dataclass(frozen=True, slots=True)
class Import:
    """A run that is to be made as it was stored elsewhere.

    Attributes:
        target: where to.
        stored: what it was, checked by ``check_stored``.
        lines: asked for anew at each try: each entry's id and line, and its result if it has one.
    """

    target: Fence
    stored: Stored
    lines: Callable[[], Iterable[tuple[str, str, bytes | None]]]

    def draft(self) -> Draft:
        """What makes it."""
        return Draft(self.target, self._write, self._begin)

    def _write(self, token: str, times: int) -> Protocol[tuple[int, int]]:
        lines, size, count, kept = list[str](), 0, 0, 1
        results: list[str | bytes] = [BIRTH, self.stored.loaded.entries[0].id]
        for entry_id, line, data in self.lines():
            if lines and (size + len(data or b"") > PIECE or len(lines) == MOST):
                yield from write_piece(self.target, token, lines, results, times)
                lines, results, size = [], [], 0
            lines.append(line)
            count += 1
            if data is not None:
                results += (entry_id, data)
                size += len(data)
                kept += 1
        yield from write_piece(self.target, token, lines, results, times)
        return count, kept

    def _begin(self, token: str) -> tuple[Command, ...]:
        keys, loaded = self.target.keys, self.stored.loaded
        birth, begun = loaded.entries[0], about(loaded.entries)
        assert isinstance(birth, Birth) and begun is not None  # it was checked
        sums = totals(fold_entries(logged_money(loaded.entries)).values())
        fields: list[str | int] = [part for pair in stands(loaded).items() for part in pair]
        fields += [*about_fields(begun), *(part for pair in sums.items() for part in pair)]
        made: list[Command] = [born_command(keys, token, birth), ("HSET", keys.meta(token), *fields)]
        made.append(("DEL", keys.waste, keys.answers, keys.cancel))
        for key, pairs in ((keys.waste, self.stored.waste), (keys.answers, self.stored.answers)):
            if pairs:
                made.append(("HSET", key, *(part for pair in pairs.items() for part in pair)))
        if self.stored.cancel is not None:
            made.append(("SET", keys.cancel, self.stored.cancel))
        return tuple(made)


@dataclass(frozen=True, slots=True)
class _InFile(RunKeys):
    """What the parts of a run are called in messages about a file."""

    def log(self, token: str) -> str:
        return "its log"

    def results(self, token: str) -> str:
        return "what it has of results"

    def meta(self, token: str) -> str:
        return "its first line"

    @property
    def waste(self) -> str:
        return "its waste"


def check_stored(
    address: Address,
    meta: Mapping[str, str],
    lines: Sequence[bytes],
    *,
    results: int,
    waste: dict[str, bytes],
    answers: dict[str, bytes],
    cancel: bytes | None,
    birth: str,
    begun: About,
) -> Stored:
    """What a file says is stored of a run, checked as a load checks it.

    Raises:
        CheckpointsLost, CheckpointCorrupt, SchemaTooNew: it is no whole run.
    """
    fields = about_fields(begun)
    whole = {**meta, BIRTH: birth, **dict(zip(fields[::2], fields[1::2], strict=True))}
    flat = [part.encode() for pair in whole.items() for part in pair]
    beside: list[Reply] = [part for key, value in waste.items() for part in (key.encode(), value)]
    replies: list[Reply] = [lines, flat, results + 1, birth.encode(), beside, [b"0", b"0"], b""]
    loaded = parse_load(_InFile(address.keys.tag), address.namespace, address.run_id, _TOKEN, replies)
    return Stored(loaded, tuple(lines), waste, answers, cancel)


def _pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    return dict(zip((key.decode() for key in flat[::2]), flat[1::2], strict=True))

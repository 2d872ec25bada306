"""Work that is done item by item, broken: where it is, and when that is stored; and users' transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from agentcheckpoint import attempt, watched
from agentcheckpoint.core.cursors import Cursors, Position, cursor_field
from agentcheckpoint.placing import Place
from agentcheckpoint.store import commit
from agentcheckpoint.store.changes import Outdated
from agentcheckpoint.store.effects import Lost, Packet
from agentcheckpoint.store.watching import watch_head
from agentcheckpoint.walking import Walk

from ..variants import Variant, doing
from .protocol import _blind


def _position(place: Place, value: object) -> tuple[Position, Any]:
    data, value = place._type.encode(value)
    now = place.attempt.now_ms()
    made = Position(begun=place.attempt.birth, digest=place.scope.digest, kind=place._kind, at=now, value=data.decode())
    return made, value


@contextmanager
def unfenced_cursors() -> Iterator[None]:
    """A value cursor is written under whatever token is current."""
    write = Place.write

    def blindly(place: Place, value: object, marks: Any = None) -> Any:
        if place._kind != "value":
            return (yield from write(place, value, marks))
        made, value = _position(place, value)
        keys, field = place.attempt.fence.keys, cursor_field(place.slot)
        while True:
            try:
                (head,) = yield Packet((("GET", keys.head),))
                yield Packet((("HSET", keys.meta(head.decode()), field, made.model_dump_json(exclude_none=True)),))
                break
            except Lost:
                continue
        place.attempt.cursors.stored(place.slot, made)
        return value

    with patch.object(Place, "write", blindly):
        yield


@contextmanager
def cursors_in_memory() -> Iterator[None]:
    """Every other time that a value cursor is set, only this process knows of it."""
    write = Place.write

    def lazily(place: Place, value: object, marks: Any = None) -> Any:
        if place._kind == "value" and isinstance(value, int) and value % 2:
            return _position(place, value)[1]
        return (yield from write(place, value, marks))

    with patch.object(Place, "write", lazily):
        yield


@contextmanager
def cursors_left() -> Iterator[None]:
    """A step's cursor stays when its step is done."""
    with patch.object(Cursors, "ended_by", lambda *_: ()):
        yield


@contextmanager
def unread_positions() -> Iterator[None]:
    """Whoever goes on with a step begins it at its start."""
    with patch.object(Place, "stored", lambda _place, start: start):
        yield


@contextmanager
def marked_ahead() -> Iterator[None]:
    """An item counts as done when its body begins."""
    enter = Walk.enter

    def hastily(walk: Walk[Any]) -> Any:
        item = enter(walk)
        walk.left()
        walk._in_body = False
        assert walk.attempt.store is not None
        walk.attempt.store.run(walk.write())
        return item

    with patch.object(Walk, "enter", hastily):
        yield


@contextmanager
def marks_left() -> Iterator[None]:
    """The marks of an unordered loop stay when the loop is done."""
    commands = commit.commit_commands

    def kept(fence: Any, token: str, change: Any, line: str) -> Any:
        return commands(fence, token, replace(change, unmark=()), line)

    with patch.object(commit, "commit_commands", kept):
        yield


@contextmanager
def unwatched_heads() -> Iterator[None]:
    """A user's transaction does not watch whose the run is."""
    with patch.object(watched, "watch_head", _blind(watch_head, "head")):
        yield


@contextmanager
def transactions_of_their_own() -> Iterator[None]:
    """A user's commands are applied, and the checkpoint after them."""
    stored = attempt.commit

    def two(fence: Any, change: Any, *rest: Any, **options: Any) -> Any:
        beside = change.beside
        if beside is not None:
            try:
                replies = yield Packet((("MULTI",), *beside.commands, ("EXEC",)), line=beside.line)
            except Lost as exc:
                raise Outdated(str(exc)) from exc
            if replies[-1] is None:
                raise Outdated("what it has read was changed meanwhile")
        return (yield from stored(fence, replace(change, beside=None), *rest, **options))

    with patch.object(attempt, "commit", two):
        yield


VARIANTS = (
    Variant(
        "cursor-not-fenced",
        "a cursor is written under its worker's token",
        "grid",
        unfenced_cursors,
        doing("cursor", "late"),
        "its cursor is left",
    ),
    Variant(
        "cursor-set-in-memory",
        "a cursor that was set is stored",
        "grid",
        cursors_in_memory,
        doing("cursor", "kill-before"),
        "were acknowledged, and",
    ),
    Variant(
        "cursor-left-behind",
        "a cursor goes with its step's result",
        "grid",
        cursors_left,
        doing("cursor", "delay"),
        "its cursor is left",
    ),
    Variant(
        "position-not-read",
        "an item whose mark is stored is not worked on again",
        "grid",
        unread_positions,
        doing("loop", "kill-after"),
        "was worked on again, and it had been acknowledged",
    ),
    Variant(
        "item-marked-before-its-body",
        "no item is skipped",
        "grid",
        marked_ahead,
        doing("loop", "kill"),
        "are stored as done, and",
    ),
    Variant(
        "marks-left-behind",
        "marks go with their loop's result",
        "grid",
        marks_left,
        doing("loop", "delay"),
        "marks are left",
    ),
    Variant(
        "transaction-head-not-watched",
        "a stale worker's transaction is refused whole",
        "grid",
        unwatched_heads,
        doing("transact", "late"),
        "its own keys were changed by",
    ),
    Variant(
        "transaction-in-two",
        "a user's commands are applied with the checkpoint",
        "grid",
        transactions_of_their_own,
        doing("transact", "kill-before"),
        "its own keys were changed by",
    ),
)

PAUSED = (
    Variant(
        "stale-cursor-accepted",
        "a stale worker's cursor is refused",
        "pauses",
        unfenced_cursors,
        ("loops", "async loops"),
        "stale write: meta",
    ),
    Variant(
        "stale-transaction-accepted",
        "a stale worker's transaction is refused whole",
        "pauses",
        unwatched_heads,
        ("loops", "async loops"),
        "stale write: own",
    ),
)

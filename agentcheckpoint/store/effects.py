"""What a protocol generator asks of its driver, and what it is told.

A generator of this package holds rules and does no I/O. It yields a ``Packet`` and is sent the list of its replies; an
error reply is a ``Refusal`` in that list. It yields a ``Pause`` and is sent ``None``, or an ``Await`` and is sent the
future's exception, if it has one. When a packet could not leave, ``NotSent`` is thrown into it; when it left and its
replies did not all come back, ``Lost``. ``thread_driver.py`` and ``loop_driver.py`` run such generators over
connections; a test can run one by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]
Reply: TypeAlias = Any
"""What redis-py's parser returns: bytes, int, None, a list of these, or a ``Refusal``."""

Node: TypeAlias = tuple[str, int]
"""A server among several: host and port."""

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Line:
    """A connection that outlives one protocol: of a transaction, from its first WATCH to its EXEC."""

    wires: list[Any] = field(default_factory=list[Any])
    """The one that was opened; none before the first packet."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Commands that leave in one write.

    ``held`` packets of one generator travel on one connection of its own: a WATCH means nothing on any other.
    One with a ``line`` travels on that, and does not leave if it has broken.
    ``patience`` multiplies the time-out. ``node`` is the server that it goes to; ``None``: where its keys lie.
    """

    commands: tuple[Command, ...]
    held: bool = False
    patience: int = 1
    node: Node | None = None
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds. Where it is ``idle`` nothing is under way, and an interrupt ends the protocol there."""

    seconds: float
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Await:
    """Wait until the future is done, whatever its outcome. ``idle``: as in ``Pause``."""

    future: Future[None]
    idle: bool = False


Effect: TypeAlias = Packet | Pause | Await
Protocol: TypeAlias = Generator[Effect, Any, T]


def performed_by(protocol: Protocol[T], perform: Callable[[Effect], Protocol[Any]]) -> Protocol[T]:
    """The same protocol; each of its effects is performed by ``perform``, and what comes of that is told to it."""
    try:
        effect = next(protocol)
        while True:
            try:
                answer = yield from perform(effect)
            except GeneratorExit:
                raise
            except BaseException as exc:
                effect = protocol.throw(exc)
            else:
                effect = protocol.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        protocol.close()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that the server answered."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()


def executed(replies: Sequence[Reply]) -> Sequence[Reply] | None:
    """The replies inside the EXEC that ends a packet; ``None``: it was not applied, by its own word."""
    return cast("Sequence[Reply]", replies[-1]) if isinstance(replies[-1], list) else None


class _Trouble(Exception):
    """Attributes:
    timed_out: the time-out of the packet ran out, so that it was waited for.
    """

    def __init__(self, message: str = "", *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class NotSent(_Trouble):
    """The packet did not leave, or was turned away whole: nothing was applied."""


class Lost(_Trouble):
    """The packet left, and its replies did not all come back: applied or not, nobody here knows."""


def ms_of(time: Sequence[bytes]) -> int:
    """Milliseconds since the epoch, from the reply to ``TIME``."""
    return int(time[0]) * 1000 + int(time[1]) // 1000

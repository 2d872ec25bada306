"""The words of RESP2: commands to one packet, and bytes as they come to replies. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from agentcheckpoint.store.effects import Command, Refusal, Reply

UNFINISHED: Final = object()
"""Stands for a reply of which a part has not come yet."""

_BULK, _ARRAY, _NUMBER, _STATUS, _ERROR = b"$*:+-"


def pack(commands: Iterable[Command]) -> bytes:
    """The packet that carries these commands, whole before its first byte leaves."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def refusal_of(text: str) -> Refusal:
    """An error reply: its code, if it has one, and what it says."""
    word, _, rest = text.partition(" ")
    return Refusal(word, rest) if word.isupper() else Refusal("ERR", text)


class Replies:
    """Takes bytes as they come, and gives the replies that are whole."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._pieces: list[bytes] = []
        self._length = 0
        """Of all that has come and is not read: the rest of ``_data``, and ``_pieces``."""
        self._needed = 0
        """It is no use to look before so much is there."""
        self._open: list[tuple[list[Reply], int]] = []
        """The arrays that have begun, and how many elements each will have."""

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self._length += len(data)

    def take(self) -> Reply:
        """The next reply, or ``UNFINISHED``.

        Raises:
            ValueError: this is not RESP2.
        """
        if self._length < self._needed:
            return UNFINISHED
        if self._pieces:
            rest = (self._data[self._at :],) if self._at < len(self._data) else ()
            self._data, self._at = b"".join((*rest, *self._pieces)), 0
            self._pieces.clear()
        while (element := self._element()) is not UNFINISHED:
            while self._open:
                items, size = self._open[-1]
                if element is not self._open:
                    items.append(element)
                if len(items) < size:
                    break
                self._open.pop()
                element = items
            else:
                return element
        return UNFINISHED

    def _element(self) -> Any:
        """What begins here; ``self._open`` for an array that has just begun."""
        data, at = self._data, self._at
        end = data.find(b"\r\n", at)
        if end < 0:
            self._needed = len(data) - at + 1
            return UNFINISHED
        kind, after = data[at], end + 2
        value: Any
        if kind == _BULK:
            size = int(data[at + 1 : end])
            value = None
            if size >= 0:
                after += size + 2
                if len(data) < after:
                    self._needed = after - at
                    return UNFINISHED
                value = data[end + 2 : after - 2]
        elif kind == _STATUS:
            value = data[at + 1 : end]
        elif kind == _NUMBER:
            value = int(data[at + 1 : end])
        elif kind == _ARRAY:
            size = int(data[at + 1 : end])
            value = None if size < 0 else self._open
            if size >= 0:
                self._open.append(([], size))
        elif kind == _ERROR:
            value = refusal_of(data[at + 1 : end].decode("utf-8", "replace"))
        else:
            raise ValueError(f"no reply begins with {data[at : at + 20]!r}")
        self._at, self._needed = after, 0
        self._length -= after - at
        return value

"""Result bytes to what is stored of them, and back: packed where that saves room, then through the codecs. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Protocol

from agentcheckpoint.core.codec import MAX_BYTES
from agentcheckpoint.core.models import Payload
from agentcheckpoint.core.roundtrip import told
from agentcheckpoint.errors import CheckpointCorrupt

WORTH = 512
"""Bytes from which on results are packed: of fewer, little would be saved."""
_FAST = 1
"""zlib's level: an answer of 2 kB takes 20 microseconds and half of its room; higher ones save a few per cent more."""
_PLAIN: Final = "json"
_PACKED: Final = "json+zlib"


@dataclass(frozen=True, slots=True)
class Where:
    """Where result bytes belong, so that a codec can bind them to it; ``record`` is the id of their log entry."""

    namespace: str
    run_id: str
    slot: str
    record: str


class Codec(Protocol):
    """Bytes to bytes and back, between the typed value and the store. ``decode`` raises on what it did not write."""

    @property
    def name(self) -> str:
        """What stored records call it; without ``+``."""
        ...

    def encode(self, data: bytes, where: Where) -> bytes: ...

    def decode(self, data: bytes, where: Where) -> bytes: ...


class Chain:
    """How a run's result bytes are stored.

    Args:
        codecs: what they go through after they were packed: in order when written, backwards when read.
    """

    def __init__(self, codecs: tuple[Codec, ...] = ()) -> None:
        self._codecs = codecs
        after = "".join(f"+{codec.name}" for codec in codecs)
        self._plain, self._packed = _PLAIN + after, _PACKED + after

    def encode(self, data: bytes, where: Where) -> tuple[bytes, Payload]:
        """Result bytes as they are stored, and what their record says about them."""
        name = self._plain
        if len(data) >= WORTH and len(packed := zlib.compress(data, _FAST)) < len(data):
            data, name = packed, self._packed
        for codec in self._codecs:
            data = codec.encode(data, where)
        return data, Payload(size=len(data), codec=name)

    def decode(self, data: bytes, payload: Payload, where: Where) -> bytes:
        """The bytes that ``encode`` was given.

        Args:
            data: what is stored.
            payload: what the record says. The codecs must be these ones: stored data does not choose its own decoding,
                or a record in clear would pass for one that was encrypted.
            where: where it is stored.

        Raises:
            CheckpointCorrupt: it is not as long as was recorded, other codecs wrote it, or one of them refused it.
        """
        if len(data) != payload.size:
            raise _cut_off(data, payload, where)
        if payload.codec not in (self._plain, self._packed):
            raise _undecodable(where, self._lacking(payload.codec))
        try:
            for codec in reversed(self._codecs):
                data = codec.decode(data, where)
            return data if payload.codec == self._plain else _unpacked(data)
        except Exception as exc:  # whatever a codec raises on bytes that it did not write
            raise _undecodable(where, told(exc)) from exc

    def _lacking(self, written: str) -> str:
        missing = [repr(name) for name in written.split("+") if name not in self._packed.split("+")]
        lacks = f"; missing here: {', '.join(missing)}" if missing else ""
        return f"it was written as {written!r}, and {self._plain!r} is configured{lacks}"


def _unpacked(data: bytes) -> bytes:
    """Raises ValueError or zlib.error: not whole, or more than any result has."""
    inflating = zlib.decompressobj()
    found = inflating.decompress(data, MAX_BYTES + 1)
    if not inflating.eof or inflating.unused_data:
        raise ValueError(f"it is packed, and not whole, or has more than {MAX_BYTES:,} bytes")
    return found


def _cut_off(data: bytes, payload: Payload, where: Where) -> CheckpointCorrupt:
    what = f"step {where.slot!r}" if where.slot else "its output"
    return CheckpointCorrupt(
        f"run {where.run_id!r}, {what}: {len(data)} bytes are stored as its result, and {payload.size} were "
        "recorded. The record is corrupt; nothing was overwritten.",
        run_id=where.run_id,
        step=where.slot or None,
    )


def _undecodable(where: Where, why: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"run {where.run_id!r}, step {where.slot!r}: its recorded result cannot be decoded: {why}. Open the run with "
        "the codecs (and their keys) that it was written with; if these are they, the record is corrupt.",
        run_id=where.run_id,
        step=where.slot,
    )

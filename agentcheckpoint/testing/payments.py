"""What the loopback provider bills: tokens, prices, and a journal that is on disk before an answer leaves."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

_BYTES_PER_TOKEN = 4
_CACHE_BLOCK = 128
"""Tokens: cached prefixes are counted in blocks of this size, as the real provider does."""


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars per token. Cached tokens lie inside the input, reasoning tokens inside the output."""

    input: int
    cached: int
    output: int

    def of(self, tokens: Tokens) -> int:
        """What these tokens cost, in nano-dollars."""
        fresh = tokens.input - tokens.cached
        return fresh * self.input + tokens.cached * self.cached + tokens.output * self.output


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one answer used: ``cached`` is part of ``input``, ``reasoning`` is part of ``output``."""

    input: int
    output: int = 0
    cached: int = 0
    reasoning: int = 0

    def usage(self, endpoint: str) -> JSON:
        """The usage object as that endpoint sends it."""
        read = {"cached_tokens": self.cached, "cache_write_tokens": 0}
        thought = {"reasoning_tokens": self.reasoning}
        total = {"total_tokens": self.input + self.output}
        match endpoint:
            case "chat":
                detail = {"prompt_tokens_details": read, "completion_tokens_details": thought}
                return {"prompt_tokens": self.input, "completion_tokens": self.output, **total, **detail}
            case "responses":
                detail = {"input_tokens_details": read, "output_tokens_details": thought}
                return {"input_tokens": self.input, "output_tokens": self.output, **total, **detail}
            case _:
                return {"prompt_tokens": self.input, **total}


PRICES: Mapping[str, Price] = MappingProxyType(
    {
        "demo-large": Price(input=2_500, cached=250, output=10_000),
        "demo-small": Price(input=150, cached=15, output=600),
    }
)
"""The default price table: two made-up models."""

DEFAULT_PRICE = PRICES["demo-small"]
"""What every model costs that the table does not name."""


@dataclass(frozen=True, slots=True)
class Payment:
    """One line of the journal: the provider has billed this, whatever became of the answer."""

    endpoint: str
    """``chat``, ``responses`` or ``embeddings``."""
    digest: str
    """SHA-256 of the canonical request body: the same request has the same digest."""
    client_request_id: str
    """The request's ``X-Client-Request-Id`` header, or an empty string."""
    request_id: str
    """The answer's ``x-request-id`` header."""
    model: str
    usage: JSON
    """As sent in the answer (or as it would have been sent, had the stream been asked for it)."""
    cost: int
    """Nano-dollars."""
    n: int = 0
    """1 for the journal's first payment, and so on without gaps."""
    at: int = 0
    """When, in nanoseconds of the monotonic clock; never less than in the line before."""


def encode(value: object) -> bytes:
    """One line of compact UTF-8 JSON; a lone surrogate, which UTF-8 cannot hold, is sent as its JSON escape."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def digest_of(body: JSON) -> str:
    """SHA-256 of the body with its keys in order, as hexadecimal."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def count_tokens(data: bytes) -> int:
    """An estimate that depends on the size alone: four bytes a token, rounded up."""
    return -(-len(data) // _BYTES_PER_TOKEN)


class PromptCache:
    """Remembers the prompts of each model, and says how much of a new one is a known prefix.

    Args:
        minimum: tokens below which a known prefix is not counted as cached.
    """

    def __init__(self, minimum: int) -> None:
        self._minimum = minimum
        self._seen: set[tuple[str, bytes]] = set()
        self._lock = threading.Lock()

    def meet(self, model: str, prompt: bytes) -> int:
        """Remember ``prompt``. Returns the tokens of its longest prefix that was met before, in whole blocks."""
        size = _CACHE_BLOCK * _BYTES_PER_TOKEN
        running, cached = hashlib.sha256(), 0
        with self._lock:
            for start in range(0, len(prompt) - size + 1, size):
                running.update(prompt[start : start + size])
                mark = (model, running.digest())
                if mark in self._seen:
                    cached += _CACHE_BLOCK
                self._seen.add(mark)
        return cached if cached >= self._minimum else 0


class Journal:
    """The provider's payments, in the order in which they were booked; safe to use from many threads.

    Args:
        path: a file to append to, made if need be; what it already holds counts. ``None`` keeps all in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._payments: list[Payment] = []
        self._closed = False
        self._file = None
        if path is not None:
            self._file = path.open("ab+")
            self._file.seek(0)
            self._payments, whole = _parse(self._file.read())
            self._file.truncate(whole)
        self._synced = self._written = len(self._payments)

    @property
    def payments(self) -> list[Payment]:
        """All payments so far, oldest first."""
        with self._lock:
            return list(self._payments)

    def book(self, payment: Payment) -> Payment:
        """Add a payment. When this returns, it has been written and fsynced.

        Args:
            payment: all but its ``n`` and ``at``, which the journal sets.

        Raises:
            OSError: it could not be written; the answer must not be sent.
            ValueError: the journal is closed; nothing was booked.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the journal is closed")
            last = self._payments[-1].at if self._payments else 0
            payment = replace(payment, n=len(self._payments) + 1, at=max(last, time.monotonic_ns()))
            if self._file is not None:
                self._file.write(encode(asdict(payment)) + b"\n")
                self._file.flush()
            self._payments.append(payment)
            self._written = payment.n
        self._sync(payment.n)
        return payment

    def _sync(self, n: int) -> None:
        """Return when the first ``n`` lines are on disk. One fsync serves all that wrote before it began."""
        with self._sync_lock:
            if self._file is None or self._synced >= n:
                return
            covered = self._written
            os.fsync(self._file.fileno())
            self._synced = covered

    def close(self) -> None:
        """Close the file; what was booked stays readable. A later booking fails."""
        with self._lock, self._sync_lock:
            self._closed = True
            if self._file is not None:
                self._file.close()


def read_payments(path: Path) -> list[Payment]:
    """Read a journal's file, also while its provider runs, or after it was killed.

    Args:
        path: the file that was given as ``journal=``.

    Returns:
        The payments, oldest first. A last line that is not whole is left out: its answer was never sent.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    return _parse(path.read_bytes())[0]


def _parse(data: bytes) -> tuple[list[Payment], int]:
    """The payments in ``data``, and the size of its whole lines."""
    whole = data.rfind(b"\n") + 1
    return [Payment(**json.loads(line)) for line in data[:whole].splitlines()], whole

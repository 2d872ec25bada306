"""What a worker writes down as it lives: payments, what it saw. It outlives the worker, who may die at any line."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Diary:
    """An append-only file. What earlier lives wrote counts.

    Args:
        path: the file; a line is written whole, in one system call, so it outlives a SIGKILL.
        die_at: at which of its own points this life ends by SIGKILL; ``None``: at none.
    """

    def __init__(self, path: Path, die_at: int | None = None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._before = Account.read(path)
        self._left = die_at
        self._lock = threading.Lock()
        self.points = 0

    def point(self) -> None:
        """A place between two things that happen: a life may end here."""
        with self._lock:
            self.points += 1
            if self.points == self._left:
                os.kill(os.getpid(), signal.SIGKILL)

    def write(self, what: str, label: str, value: object) -> None:
        os.write(self._file, (json.dumps([what, label, value]) + "\n").encode())

    def pay(self, label: str) -> dict[str, Any]:
        """Something that costs money and cannot be undone. What it returns could have come from a model."""
        self.point()
        receipt = os.urandom(6).hex()
        self._before.paid[label].append(receipt)
        self.write("paid", label, receipt)
        self.point()
        return self._receipt(label, receipt)

    def bought(self, label: str) -> dict[str, Any] | None:
        """What the first payment for it gave; ``None``: it was not paid for."""
        receipts = self._before.paid[label]
        return self._receipt(label, receipts[0]) if receipts else None

    def times_paid(self, label: str) -> int:
        """How often it was paid for, in all lives."""
        return len(self._before.paid[label])

    def first_of(self, what: str, label: str) -> bool:
        """Notes that something was done; returns whether no life had done it before."""
        first = label not in self._before.marks
        self._before.marks.append(label)
        self.write(what, label, first)
        return first

    def _receipt(self, label: str, receipt: str) -> dict[str, Any]:
        first = self._before.paid[label][0] == receipt
        usage = {"input_tokens": 1000, "output_tokens": 0}
        return {"label": label, "receipt": receipt, "first": first, "model": "m", "usage": usage}

    def walk(self, slot: str, what: str, item: int) -> None:
        """What has come of one item of a loop: see ``Account.walks``."""
        self.write("walk", slot, [what, item])

    def turns(self, slot: str) -> int:
        """How many passes over the items of a loop earlier lives have begun."""
        return sum(what == "begins" for what, _ in self._before.walks[slot])

    def see(self, label: str, value: object) -> Any:
        """The agent has it."""
        self.write("seen", label, value)
        self.point()
        return value


@dataclass
class Account:
    """A diary, read: by label and in order."""

    paid: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    ends: list[Any] = field(default_factory=list[Any])
    errors: list[str] = field(default_factory=list[str])
    answers: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """What counts as the answer to a question, as those who gave one were told."""
    tries: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The numbers of tries that a step's policy was told."""
    walks: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    """What came of the items of a loop, by the end of its slot: a pass ``begins`` at one; one was worked on (``did``);
    it is stored as done (``kept``), as the loop was told."""
    marks: list[str] = field(default_factory=list[str])
    attempts: int = 0
    points: int = 0

    @classmethod
    def read(cls, path: Path) -> Account:
        account = cls()
        for what, label, value in _lines(path):
            account._take(what, label, value)
        return account

    def _take(self, what: str, label: str, value: Any) -> None:
        by_label = {"paid": self.paid, "seen": self.seen, "answer": self.answers, "try": self.tries}
        if what in by_label:
            by_label[what][label].append(value)
        elif what == "walk":
            self.walks[label].append((value[0], value[1]))
        elif what == "end":
            self.ends.append(value)
        elif what == "error":
            self.errors.append(value)
        elif what == "stumbled":
            self.marks.append(label)
        elif what == "attempt":
            self.attempts += value
        else:
            self.points += value


def _lines(path: Path) -> Iterator[tuple[str, str, Any]]:
    for line in path.read_text().splitlines() if path.exists() else ():
        yield tuple(json.loads(line))  # type: ignore[misc]

"""A pass over the items of a loop in any order: those that are done are a set, kept on the server."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Any, TypeVar

from agentcheckpoint.core import ids
from agentcheckpoint.core.cursors import Marked
from agentcheckpoint.flow import Course, Perform
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.marks import Marks, read_marks
from agentcheckpoint.walking import Walk

T = TypeVar("T")
MOST = 512
"""How many items are asked about at a time, and how many are kept before they are marked."""


class Unordered(Walk[T]):
    """A pass that marks each item by its key.

    While items are skipped, as many again are taken ahead and asked about together: of a million that are done, not
    each costs a round trip. A pass that found nothing done does not ask at all.
    """

    kind, stored = "unordered", Marked

    def start(self) -> None:
        """See ``Walk``."""
        position: Marked | None = self.place.stored(None)
        self._resumes = position is not None
        self._known = 0 if position is None else position.least + 1
        """How many fields the set has: one for each item, and its birth mark."""
        self._by = secrets.token_hex(4)
        self._page = list[tuple[T, str, str]]()
        self._digests = dict[str, str]()
        """Of those that are ready, by their keys."""
        self._pending = dict[str, None]()
        """Digests of the items that passed and are not marked yet."""
        self._skipped, self._worked = 0, 0
        self._item = ""

    def take(self, page: list[T]) -> bool:
        """See ``Walk``. Raises ``RunMisuse`` if two of the items have one key."""
        assert self.manner.key is not None
        keys = [ids.check_key(str(self.manner.key(item))) for item in page]
        self._page = [(item, key, _digest(key)) for item, key in zip(page, keys, strict=True)]
        digests = set[str]()
        for _, key, digest in self._page:
            if digest in digests or digest in self._pending:
                raise self._twins(key)
            digests.add(digest)
        if not self._resumes:
            self._admit(self._page)
        return self._resumes

    def ask(self) -> Course[None]:
        """See ``Walk``."""
        digests = [digest for _, _, digest in self._page]
        marked, self._known = yield Perform(read_marks(self.attempt.fence, self.place.slot, digests, self._known))
        for (_, key, _), by in zip(self._page, marked, strict=True):
            if by == self._by:
                raise self._twins(key)
        todo = [one for one, by in zip(self._page, marked, strict=True) if by is None]
        self._skipped += len(digests) - len(todo)
        self.done = self._count()
        self.ahead = 1 if todo else min(2 * self.ahead, MOST)
        self._admit(todo)

    def _admit(self, todo: list[tuple[T, str, str]]) -> None:
        self.ready.extend((item, key) for item, key, _ in todo)
        self._digests = {key: digest for _, key, digest in todo}

    def entered(self) -> None:
        """See ``Walk``."""
        self._item = self._digests[self.ready[0][1]]

    def left(self) -> None:
        """See ``Walk``."""
        self._pending[self._item] = None
        self._worked += 1
        self.done = self._count()

    def write(self) -> Protocol[Any]:
        """Marks the items that passed.

        Raises:
            RunMisuse: one of them had been marked before: its key is another item's.
        """
        marks = Marks(self.place.slot, tuple(self._pending), self._by, self._known)
        least = max(self._known - 1, 0)
        yield from self.place.write(Marked(done=self.done, least=least), marks)
        if marks.twice:
            raise self.place.misuse("two items have the same key, and it has to tell them apart")
        self._known = marks.most
        self._pending.clear()

    def check_end(self) -> None:
        """Raises ``RunMisuse`` if there were more items than keys."""
        met = self._skipped + self._worked
        if met > self.done:
            raise self.place.misuse(f"{met} items have {self.done} keys, and these have to tell them apart")

    def _count(self) -> int:
        return max(self._known - 1, 0) + len(self._pending)

    def _twins(self, key: str) -> Exception:
        return self.place.misuse(f"two items have the key {key!r}, and it has to tell them apart")


def _digest(key: str) -> str:
    """Of 96 bits: of a million keys, two have the same once in 10 ** 17 loops."""
    return base64.b64encode(hashlib.sha256(key.encode()).digest()[:12]).decode()

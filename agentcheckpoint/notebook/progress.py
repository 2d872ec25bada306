"""A run's progress in a notebook: one output of the cell, updated in place while the steps run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from agentcheckpoint import attempt as hooks
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.markup import element
from agentcheckpoint.core.models import Done, Intent
from agentcheckpoint.notebook.telling import progress_text
from agentcheckpoint.store.commit import Change

EVERY = 0.25
"""Seconds between two updates."""


class Progress:
    """The output. Its place is taken at once, so that what the cell prints comes under it.

    Args:
        attempt: of which run.
        show: displays a bundle of texts by MIME type, and returns what updates it; ``None``: there is nothing that
            could be updated, and only the end is shown.
    """

    def __init__(self, attempt: Attempt, show: Callable[[dict[str, str]], Any] | None) -> None:
        self._attempt, self._show = attempt, show
        self._handle: Any = None
        self._ran, self._now = 0, None
        self._lock = threading.Lock()
        self._last, self._later, self._ended = time.monotonic(), None, False

    _now: str | None
    _later: threading.Timer | None

    def begin(self) -> None:
        """Takes its place, and listens."""
        if self._show is None:
            return
        self._handle = self._show(self._bundle())
        hooks.before_call.append(self._called)
        hooks.before_commit.append(self._sent)
        hooks.after_commit.append(self._applied)

    def end(self, bundle: dict[str, str] | None) -> None:
        """The last update; ``None``: none but what is known here."""
        if self._handle is None:
            return
        hooks.before_call.remove(self._called)
        hooks.before_commit.remove(self._sent)
        hooks.after_commit.remove(self._applied)
        with self._lock:
            self._ended, self._now = True, None
            if self._later is not None:
                self._later.cancel()
            self._handle.update(bundle or self._bundle(), raw=True)

    def _called(self, attempt: Attempt, slot: str, function: Callable[[], Any]) -> Callable[[], Any]:
        if attempt is self._attempt:
            self._now = slot
            self._tell()
        return function

    def _sent(self, attempt: Attempt, change: Change) -> None:
        if attempt is self._attempt and isinstance(change.entry, Intent):
            self._now = change.entry.slot
            self._tell()

    def _applied(self, attempt: Attempt, change: Change) -> None:
        if attempt is self._attempt and isinstance(change.entry, Done):
            self._ran += 1
            self._now = None if self._now == change.entry.slot else self._now
            self._tell()

    def _tell(self) -> None:
        """Updates the output, now or when that is due."""
        with self._lock:
            if self._ended or self._later is not None:
                return
            wait = self._last + EVERY - time.monotonic()
            if wait <= 0:
                self._update()
                return
            self._later = threading.Timer(wait, self._tell_late)
            self._later.daemon = True
            self._later.start()

    def _tell_late(self) -> None:
        with self._lock:
            self._later = None
            if not self._ended:
                self._update()

    def _update(self) -> None:
        self._last = time.monotonic()
        self._handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        attempt = self._attempt
        text = progress_text(attempt.run_id, attempt.state or "opening", self._ran, self._now, attempt.cost())
        return {"text/plain": text, "text/html": str(element("div", text, class_="agentcheckpoint"))}

"""One worker's right to write to one run: its tokens, and the counters that a commit's replies must agree with."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from agentcheckpoint.errors import CheckpointsLost, LeaseLost, RunMisuse
from agentcheckpoint.store.keys import RunKeys, epoch_of


@dataclass(slots=True)
class Count:
    """How long a list or hash of the run must be, by what was loaded and what was acknowledged since.

    A commit that adds one element is answered with the new length ``n``. Commits of parallel steps may be applied
    in any order, so ``n`` lies between what was surely there when this one was sent, and all that may be there now.
    """

    loaded: int = 0
    acknowledged: int = 0
    under_way: int = 0
    seen: set[int] = field(default_factory=set[int])

    def send(self) -> int:
        """Count one more under way; returns the least length that its reply may name."""
        self.under_way += 1
        return self.loaded + self.acknowledged + 1

    @property
    def most(self) -> int:
        """The greatest length that can be true now."""
        return self.loaded + self.acknowledged + self.under_way

    def agrees(self, n: object, least: int) -> bool:
        """Whether the length ``n`` can be true."""
        return isinstance(n, int) and least <= n <= self.most and n not in self.seen

    def acknowledge(self, n: int) -> None:
        self.under_way -= 1
        self.acknowledged += 1
        self.seen.add(n)

    def withdraw(self) -> None:
        self.under_way -= 1


@dataclass(frozen=True, slots=True)
class Sent:
    """A commit under way: the token it was sent under, and the least lengths that its replies may name."""

    token: str
    log_least: int
    results_least: int | None


class Fence:
    """The tokens of one worker for one run. All its methods are safe in threads; none does I/O."""

    def __init__(self, keys: RunKeys, namespace: str, run_id: str) -> None:
        self.keys = keys
        self.namespace = namespace
        self.run_id = run_id
        self.lock = threading.Lock()
        self.issued: list[str] = []
        self.token = ""
        self.holder = b""
        self.ttl_ms = 30_000
        self.pid = os.getpid()
        self.heir: str | None = None
        """The foreign token that was seen as head: this worker has lost the run."""
        self.cancelled = ""
        """Why somebody has asked for the run's end; empty: nobody has, as far as this worker has heard."""
        self.committed: set[str] = set()
        """Ids of entries known to be in the log: a settlement must find them all."""
        self.went_back = False
        """The server had forgotten a newer token of this worker: it was rolled back."""
        self.doubtful = False
        """A packet's fate was unknown at some time: names of an old token may hold orphans."""
        self.looping: set[str] = set()
        """The slots that may have marks under this worker's token: its next claim takes them along."""
        self.marked: set[str] = set()
        """The slots that this worker has marked items of: its late packets may have left some under old tokens."""
        self._log = Count()
        self._results = Count()
        self._settling: Future[None] | None = None

    # -- rights ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises if this worker may not write: it lost the run, or it is a fork of the one that claimed it."""
        self.check_process()
        if self.heir is not None:
            raise self.lost_to(self.heir)

    def check_process(self) -> None:
        """Raises if this process is a fork of the one that claimed the run."""
        if os.getpid() != self.pid:
            raise RunMisuse(
                f"run {self.run_id!r}: it was opened in process {self.pid} and is used in its fork {os.getpid()}. "
                "A forked child has no right to its parent's run: open the run in the child.",
                run_id=self.run_id,
            )

    def lost_to(self, heir: str, *, step: str | None = None, value: object = None) -> LeaseLost:
        """The error to raise when ``heir`` is the current token."""
        back = epoch_of(heir) <= epoch_of(self.token)  # an heir of this worker's claim would have a greater one
        return LeaseLost(
            f"run {self.run_id!r}{f', step {step!r}' if step else ''}: another worker has taken it over (token "
            f"{heir}, this worker had {self.token}). Nothing was written. Stop here: the other worker goes on with "
            "it; what this one paid is booked as wasted."
            f"{' The server has forgotten that this worker claimed the run: it was rolled back.' if back else ''}",
            run_id=self.run_id,
            step=step,
            value=value,
        )

    def hear(self, cancel: object) -> None:
        """Notes what stands in the run's ``cancel`` key."""
        if isinstance(cancel, bytes):
            self.cancelled = cancel.decode("utf-8", "replace") or "no reason was given"

    def bind(self) -> None:
        """Binds the right to the process that claims: a forked child has none."""
        self.pid = os.getpid()

    def issue(self, token: str) -> None:
        """Note a token before it is sent anywhere: it may become current without our hearing of it."""
        with self.lock:
            self.issued.append(token)

    def is_outrun(self, token: str) -> bool:
        """Whether a sibling that could not wait has claimed with a later token meanwhile: that one counts."""
        return self.token != "" and self.issued.index(token) < self.issued.index(self.token)

    def loaded(self, token: str, log: int, results: int, ids: set[str]) -> None:
        """Take over the token of a claim whose complete load is known.

        Raises:
            CheckpointsLost: something is missing there that this worker knows to be committed.
        """
        with self.lock:  # a sibling's commit may be acknowledged in another thread at this moment
            if self.is_outrun(token):
                return
            missing = self.committed - ids
            if missing:
                raise CheckpointsLost(
                    f"run {self.run_id!r}: the store no longer has {len(missing)} checkpoint(s) that it acknowledged "
                    "to this worker. It was rolled back, or restarted without durable persistence. What the results "
                    "cost is still in this process; open the run again to go on with what is left.",
                    run_id=self.run_id,
                )
            self.token = token
            self.committed = ids
            self._log = Count(loaded=log)
            self._results = Count(loaded=results)

    # -- commits --------------------------------------------------------------------------------------------------

    def send(self, *, result: bool) -> Sent:
        """A commit is about to leave under the current token."""
        with self.lock:
            least = self._log.send()
            return Sent(self.token, least, self._results.send() if result else None)

    def withdraw(self, sent: Sent) -> None:
        """It did not leave, or was refused."""
        with self.lock:
            if sent.token == self.token:
                self._log.withdraw()
                if sent.results_least is not None:
                    self._results.withdraw()

    def acknowledge(self, sent: Sent, entry_id: str, log: object, results: object) -> bool:
        """It was applied under the head of that moment: check the lengths it was answered with, and count it.

        Returns:
            ``False`` if a sibling has claimed since, and its load did not show the entry: only another load can tell.

        Raises:
            CheckpointsLost: the lengths contradict what this worker knows to be stored.
        """
        with self.lock:
            known = entry_id in self.committed
            self.committed.add(entry_id)
            if sent.token != self.token:
                return known
            good = self._log.agrees(log, sent.log_least)
            if sent.results_least is not None:
                good = good and self._results.agrees(results, sent.results_least)
            if not good:
                raise CheckpointsLost(
                    f"run {self.run_id!r}: after this commit its log should hold {sent.log_least} to "
                    f"{self._log.most} entries and it holds {log!r} (results: {results!r}). Data was lost (evicted, "
                    "rolled back or deleted by somebody else), or another program writes there. Check "
                    "maxmemory-policy (noeviction), persistence, and who uses the keys 'ac:*'.",
                    run_id=self.run_id,
                )
            assert isinstance(log, int)
            self._log.acknowledge(log)
            if sent.results_least is not None:
                assert isinstance(results, int)
                self._results.acknowledge(results)
            return True

    # -- settlements ----------------------------------------------------------------------------------------------

    def settlement(self) -> Future[None] | None:
        """The settlement under way, if any: meanwhile no commit leaves."""
        return self._settling

    def begin_settlement(self, token: str) -> Future[None] | None:
        """Begin to settle packets of ``token``; ``None`` if a sibling does, or has done so already."""
        with self.lock:
            if self._settling is not None or self.token != token:
                return None
            self._settling = Future()
            self.doubtful = True
            return self._settling

    def end_settlement(self, settling: Future[None], error: Exception | None) -> None:
        """The siblings that wait may go on; an ``error`` tells them that nothing was settled."""
        with self.lock:
            self._settling = None
        if error is None:
            settling.set_result(None)
        else:
            settling.set_exception(error)

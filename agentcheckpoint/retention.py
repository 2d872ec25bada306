"""``ac.prune``: finished runs deleted when they are old enough. Live ones never are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any

from agentcheckpoint.core import ids
from agentcheckpoint.core.kept import Kept
from agentcheckpoint.core.lifecycle import ENDED
from agentcheckpoint.core.retention import THIRTY_DAYS, Policy, last_moment, size_text
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import (
    CheckpointCorrupt,
    CheckpointsLost,
    InvalidName,
    RunMisuse,
    RunNotFound,
    SchemaTooNew,
    StoreError,
)
from agentcheckpoint.show.layout import plain
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.glimpse import Absent, Glimpse, look_at
from agentcheckpoint.store.index import listed_runs, unlist_runs
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.reading import snapshot
from agentcheckpoint.store.store import Store
from agentcheckpoint.store.upkeep import delete_run
from agentcheckpoint.view import Address, address_of, kept_of, new_stamp

PAGE = 100
"""How many runs are looked at in one packet."""
MOST_NAMED = 20
"""How many of the skipped runs are printed."""
IN_USE = "somebody is working on it"


@dataclass(frozen=True, slots=True)
class Freed:
    """How many runs were deleted, and how many bytes of log, results and ledger they had."""

    runs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """A run that was not deleted though it may be old enough, and why."""

    run: str
    why: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune deleted.

    Attributes:
        states: what was freed, by the state in which the runs were: completed, failed, cancelled.
        skipped: runs that are old enough and in use, and those that could not be read.
        keep_ledger: their ledgers were kept.
        dry_run: nothing was deleted; it says what would have been.
    """

    states: Mapping[str, Freed]
    skipped: tuple[Skipped, ...] = ()
    keep_ledger: bool = False
    dry_run: bool = False

    @property
    def runs(self) -> int:
        """How many runs were deleted."""
        return sum(freed.runs for freed in self.states.values())

    @property
    def bytes(self) -> int:
        """How many bytes they had."""
        return sum(freed.bytes for freed in self.states.values())

    def to_record(self) -> dict[str, Any]:
        """All of it, as plain values."""
        states = {state: {"runs": freed.runs, "bytes": freed.bytes} for state, freed in self.states.items()}
        skipped = [{"run": one.run, "why": one.why} for one in self.skipped]
        return {
            "runs": self.runs,
            "bytes": self.bytes,
            "states": states,
            "skipped": skipped,
            "keep_ledger": self.keep_ledger,
            "dry_run": self.dry_run,
        }

    @property
    def summary(self) -> str:
        """What was freed: a line in all, and one for each state."""
        verb, kept = ("would delete", "keep their ledgers") if self.dry_run else ("deleted", "kept their ledgers")
        lines = [f"{verb} {_runs(self.runs)}, {size_text(self.bytes)}"]
        if self.keep_ledger and self.runs:
            lines[0] += f", and {kept}"
        for state, freed in self.states.items():
            lines.append(f"  {state}: {_runs(freed.runs)}, {size_text(freed.bytes)}")
        return "\n".join(lines)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was skipped and why: the first few runs, a line each."""
        named = [f"skipped {plain(repr(one.run))}: {plain(one.why)}" for one in self.skipped[:MOST_NAMED]]
        more = len(self.skipped) - len(named)
        return (*named, *([f"skipped {_runs(more)} more"] if more else []))

    def __str__(self) -> str:
        return "\n".join((self.summary, *self.notes))


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


class _NotDue(Exception):
    """The run was opened again since it was looked at."""


@dataclass(slots=True)
class _Prune:
    """One walk through the runs of a namespace."""

    where: Store
    namespace: str
    policy: Policy
    keep_ledger: bool
    dry_run: bool
    left: int | None
    freed: dict[str, Freed] = field(default_factory=dict[str, Freed])
    skipped: list[Skipped] = field(default_factory=list[Skipped])

    def walk(self) -> None:
        """From the run that was opened longest ago to those that were opened too late to be old enough."""
        if self.policy.shortest is None:
            return
        now_ms, _ = self.where.run(look_at(()))
        # A run ends after it was opened. Both times are on the server's clock.
        listed = listed_runs(self.where, self.namespace, max(0, now_ms - self.policy.shortest))
        while self.left != 0 and (page := list(islice(listed, PAGE))):
            self._page(list(self._addresses(page)))

    def _addresses(self, page: Iterable[str]) -> Iterator[Address]:
        for run_id in page:
            try:
                yield address_of(run_id, self.namespace)
            except InvalidName as exc:
                self._skip(run_id, exc)

    def _page(self, addresses: list[Address]) -> None:
        now_ms, sights = self.where.run(look_at(addresses))
        gone: dict[bool, list[str]] = {False: [], True: []}
        """The runs whose lines are to be taken away, by whether a ledger was kept."""
        try:
            for address, sight in zip(addresses, sights, strict=True):
                if isinstance(sight, Absent):
                    if sight.is_deleted:  # by a prune that did not come to an end
                        gone[sight.is_kept].append(address.run_id)
                elif self.left != 0 and self._is_candidate(address, sight, now_ms) and self._prune(address):
                    gone[self.keep_ledger].append(address.run_id)
        finally:
            if not self.dry_run:
                self.where.run(unlist_runs(self.namespace, gone[False]))
                self.where.run(unlist_runs(self.namespace, gone[True], kept_at_ms=now_ms))

    def _is_candidate(self, address: Address, sight: Glimpse | StoreError, now_ms: int) -> bool:
        if isinstance(sight, StoreError):
            self._skip(address.run_id, sight)
        elif self.policy.is_due(sight.state, sight.last_ms, now_ms):
            if not sight.is_held:
                return True
            self._skip(address.run_id, IN_USE)
        return False

    def _prune(self, address: Address) -> bool:
        """Whether it was deleted, or would have been."""
        seen: list[Loaded] = []

        def decide(loaded: Loaded) -> Kept | None:
            seen[:] = [loaded]
            if not self.policy.is_due(loaded.meta["state"], last_moment(loaded.entries), loaded.now_ms):
                raise _NotDue
            return kept_of(address, loaded) if self.keep_ledger else None

        try:
            if self.dry_run:
                decide(self.where.run(snapshot(address)))
            elif self.where.run(delete_run(address, new_stamp(), released_here, decide)) is not None:
                self._skip(address.run_id, IN_USE)
                return False
        except (_NotDue, RunNotFound):  # it is in use again; or another prune was faster
            return False
        except (CheckpointCorrupt, CheckpointsLost, SchemaTooNew) as exc:
            self._skip(address.run_id, exc)
            return False
        before = self.freed.get(state := seen[0].meta["state"], Freed())
        self.freed[state] = Freed(before.runs + 1, before.bytes + seen[0].size.total)
        self.left = None if self.left is None else self.left - 1
        return True

    def _skip(self, run_id: str, why: object) -> None:
        self.skipped.append(Skipped(run_id, str(why)))


def prune(
    *,
    completed: timedelta | None = THIRTY_DAYS,
    failed: timedelta | None = THIRTY_DAYS,
    cancelled: timedelta | None = THIRTY_DAYS,
    keep_ledger: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
    store: Connectable = None,
    namespace: str = "default",
) -> Pruned:
    """Deletes finished runs that are old enough. Blocking: on an event loop, use ``asyncio.to_thread``.

    Runs in any other state are live, and are never deleted, however old. A run's age is counted from the end of its
    last attempt, on the store's clock. State and age are looked at again in the transaction that deletes a run, so
    that one that is opened at that moment stays. A prune that was interrupted can be made again, and several may be
    under way at a time.

    Args:
        completed, failed, cancelled: how old runs in these states become; ``None``: they are kept for ever.
        keep_ledger: keep what ``ac.costs`` counts, as in ``ac.delete``.
        limit: how many runs at most, those that were opened longest ago first.
        dry_run: delete nothing, and say what would be deleted.
        store: as in ``ac.run``.
        namespace: as in ``ac.run``.

    Returns:
        What was deleted, and which runs were skipped because they are in use or cannot be read.

    Raises:
        RunMisuse: an age is no ``timedelta`` or negative, or the limit is no natural number.
        InvalidName: there can be no such namespace.
        StoreRefused, StoreUnavailable.
    """
    ids.check_namespace(namespace)
    policy = Policy.of(dict(zip(ENDED, (completed, failed, cancelled), strict=True)))
    if limit is not None and (isinstance(limit, bool) or limit < 0):
        raise RunMisuse(f"limit={limit!r}: it is how many runs may be deleted, or None.")
    walk = _Prune(connect(store), namespace, policy, keep_ledger, dry_run, limit)
    walk.walk()
    states: dict[str, Freed] = {state: walk.freed[state] for state in ENDED if state in walk.freed}
    return Pruned(states, tuple(walk.skipped), keep_ledger, dry_run)

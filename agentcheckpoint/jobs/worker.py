"""The worker of one machine: works on the runs of some agents that are due, so many at a time, until it is to stop."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, cast

from agentcheckpoint.agents import Agent
from agentcheckpoint.core import ids
from agentcheckpoint.current import released_here
from agentcheckpoint.errors import (
    AgentCheckpointError,
    CommitUnknown,
    RunMisuse,
    StoreRefused,
    StoreUnavailable,
    Suspended,
)
from agentcheckpoint.jobs.crew import Crew
from agentcheckpoint.jobs.looking import look_at
from agentcheckpoint.jobs.sweeping import list_missing
from agentcheckpoint.jobs.work import Worked
from agentcheckpoint.options import check_seconds
from agentcheckpoint.stopping import interrupt, signals_to
from agentcheckpoint.store.connect import Connectable, connect, switched_off
from agentcheckpoint.store.due import due_runs, left_by_dead
from agentcheckpoint.store.index import Listed
from agentcheckpoint.store.store import Store

PAGE = 200
"""How many runs of the list are asked for at a time."""
NEXT = 8
"""Among so many that are due longest, chance decides which is begun."""
DEAD_EVERY = 1.0
"""Seconds between two looks for runs whose worker has died on this machine: these need not wait for a lease's end."""
NAP = 0.2
"""Seconds after which it is looked whether the worker is to stop."""
ALONE = 30.0
"""Seconds for which a run is left alone that this worker cannot do anything with."""
SOON = 1.0
"""The same, if the store was away."""
RELIST_EVERY = 600.0
"""Seconds between two looks through all runs for such as are missing in the list of due ones."""
LONGEST_WAIT = 5.0
"""Seconds between two tries while the store is away."""

OnAttempt: TypeAlias = Callable[[str, str, Worked, float], object]
"""Called after each attempt: the run's id, its agent's name, how it stands now, and the seconds that it took."""

log = logging.getLogger("agentcheckpoint")


def _log_attempt(run_id: str, agent: str, worked: Worked, seconds: float) -> None:
    log.info(
        "run %r of %s: %s after %.1f s%s",
        run_id,
        agent,
        worked.state,
        seconds,
        f", {worked.error!r}" * bool(worked.error),
    )


class Worker:
    """Works on the runs of some agents that are due, wherever they were submitted or left. ``run()`` blocks.

    Due are runs that were submitted, interrupted or answered, those whose time has come, and those whose worker has
    died. Any number of workers may share a store: a run is worked on by one at a time.

    SIGTERM and SIGINT let each attempt end at its next commit, and then ``run`` returns; a second one kills.

    Args:
        agents: whose runs it works on. Blocking agents run in threads, async ones on one event loop.
        concurrency: how many runs at a time.
        store, namespace: as in ``ac.run``.
        poll: seconds between two looks for work.
        until_idle: return once no run of these agents is due, and none is under way here.
        on_attempt: called after each attempt, in any thread; by default it is logged.
        on_note: called with what an operator should know, each thing once; by default it is logged.

    Raises:
        RunMisuse: no agents, two of one name, or no such number.
        InvalidName: no such namespace.
    """

    def __init__(
        self,
        agents: Iterable[Agent[..., Any]],
        *,
        concurrency: int = 10,
        store: Connectable = None,
        namespace: str = "default",
        poll: float = 0.5,
        until_idle: bool = False,
        on_attempt: OnAttempt = _log_attempt,
        on_note: Callable[[str], object] = log.warning,
    ) -> None:
        self._agents = by_name(agents)
        if concurrency < 1:
            raise RunMisuse(f"concurrency={concurrency!r}: it is 1 or more.")
        check_seconds("poll", poll, 0.01, 3600)
        self._namespace = ids.check_namespace(namespace)
        self._target = store
        self._poll = poll
        self._until_idle = until_idle
        self._on_attempt = on_attempt
        self._on_note = on_note
        self._crew = Crew(concurrency, self._ended)
        self._stopping = ""
        self._alone: dict[str, float] = {}
        """Runs that are left alone, and until when, on the monotonic clock."""
        self._said: set[str] = set()
        self._made = 0
        self._relist_at = self._dead_at = 0.0

    def stop(self, reason: str = "the worker is to stop") -> None:
        """Lets ``run`` return once each attempt has ended at its next commit. Safe in a signal's own function."""
        self._stopping = self._stopping or reason
        interrupt(reason)

    def run(self) -> int:
        """Works until it is told to stop, or is idle; returns how many attempts it has made.

        Raises:
            RunMisuse: ``AGENTCHECKPOINT=off``.
            InvalidStore, NotInstalled, StoreUnavailable, StoreRefused: the store cannot be used from the beginning.
                Once it runs, it waits for a store that is away.
        """
        if switched_off():
            raise RunMisuse("AGENTCHECKPOINT=off: nothing is stored, so there is nothing to work on.")
        store = connect(self._target)
        wait = self._poll
        with signals_to(self.stop), self._crew:
            while not self._stopping:
                try:
                    begun = self._begin_due(store)
                    wait = self._poll
                except (StoreUnavailable, StoreRefused) as trouble:
                    self._say(str(trouble), f"the store is away, and is waited for: {trouble}")
                    begun, wait = 1, min(wait * 2, LONGEST_WAIT)
                if self._until_idle and not begun and not self._crew.busy:
                    break
                self._rest(wait)
            while self._crew.busy:  # a run may just be opened: it is told again
                interrupt(self._stopping)
                self._crew.wait(NAP)
        return self._made

    def _rest(self, seconds: float) -> None:
        """Until it is time to look again: an attempt has ended, or so many seconds have passed."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            if self._crew.wait(min(left, NAP)):
                return

    def _begin_due(self, store: Store) -> int:
        """Begins attempts of runs that are due, as many as there is room for; returns how many."""
        now = time.monotonic()
        if now >= self._relist_at:
            list_missing(store, self._namespace)
            self._relist_at = now + RELIST_EVERY
            self._alone = {run_id: until for run_id, until in list(self._alone.items()) if until > now}
        skip = begun = 0
        while self._crew.free and not self._stopping:
            due = store.run(due_runs(self._namespace, skip, PAGE))
            found = [*due.runs, *self._left_by_dead(store, due.ahead)]
            for run in _nearly_in_order([run for run in found if not self._is_left_alone(run.run_id)]):
                if not self._crew.free or self._stopping:
                    break
                begun += self._begin(store, run, due.now_ms)
            if not due.more:
                break
            skip += len(due.runs)
        return begun

    def _left_by_dead(self, store: Store, runs: Sequence[Listed]) -> list[Listed]:
        if time.monotonic() < self._dead_at:
            return []
        self._dead_at = time.monotonic() + DEAD_EVERY
        return store.run(left_by_dead(self._namespace, runs, released_here))

    def _begin(self, store: Store, run: Listed, now_ms: int) -> bool:
        looked = look_at(store, self._namespace, run, now_ms)
        agent = self._agents.get(looked.agent or "")
        if looked.what == "go" and agent is not None:
            self._crew.begin(agent, run.run_id, store, self._namespace)
            return True
        if looked.what in ("go", "unreadable"):
            self._alone[run.run_id] = time.monotonic() + ALONE
        if looked.what == "unreadable":
            self._say(run.run_id, f"run {run.run_id!r} is left alone: {looked.error}")
        elif looked.what == "go" and looked.agent is not None:
            self._say(f"agent {looked.agent}", f"runs of agent {looked.agent!r} are due, and left to others.")
        elif looked.what == "go":
            self._say("", f"run {run.run_id!r} is due, and others may be, that only who opened them can go on with.")
        return False

    def _ended(self, agent: Agent[..., Any], run_id: str, worked: Worked, seconds: float) -> None:
        """An attempt has ended, in its own thread or on the loop."""
        self._made += 1
        error = worked.error
        if isinstance(error, StoreUnavailable | CommitUnknown):
            self._alone[run_id] = time.monotonic() + SOON
        elif isinstance(error, AgentCheckpointError) or not isinstance(error, Exception | Suspended | None):
            self._alone[run_id] = time.monotonic() + ALONE  # it would fail in the same way at once
        try:
            self._on_attempt(run_id, agent.name, worked, seconds)
        except Exception as exc:
            self._say("on_attempt", f"on_attempt= raised {exc!r}")

    def _is_left_alone(self, run_id: str) -> bool:
        until = self._alone.get(run_id, 0.0)
        if until and until <= time.monotonic():
            self._alone.pop(run_id, None)
        return until > time.monotonic() or self._crew.has(run_id)

    def _say(self, about: str, note: str) -> None:
        if about not in self._said:
            self._said.add(about)
            self._on_note(note)


def _nearly_in_order(runs: Sequence[Listed]) -> Iterator[Listed]:
    """What is due longest first, but by chance among the next few: not all workers then reach for the same one."""
    for first in range(0, len(runs), NEXT):
        yield from random.sample(few := runs[first : first + NEXT], len(few))


def by_name(agents: Iterable[Agent[..., Any]]) -> dict[str, Agent[..., Any]]:
    """The agents by their names.

    Raises:
        RunMisuse: there are none, one is no agent, or two have one name.
    """
    found: dict[str, Agent[..., Any]] = {}
    for agent in agents:
        if not isinstance(cast(object, agent), Agent):
            raise RunMisuse(f"agents=: {agent!r} is no agent: decorate it with @ac.agent.")
        if agent.name in found:
            raise RunMisuse(f"agents=: there are two of the name {agent.name!r}. Name one: @ac.agent(name=...).")
        found[agent.name] = agent
    if not found:
        raise RunMisuse("agents=: none are given.")
    return found

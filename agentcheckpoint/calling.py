"""The call of an agent: the stored output of its run, its stored arguments, and the run handed to others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.codec import ResultType
from agentcheckpoint.core.lifecycle import about, rest_of, since_restart
from agentcheckpoint.core.models import About, Closed, Inputs, Opened
from agentcheckpoint.errors import RunMisuse, RunNotFound, StepMismatch, StoreUnavailable
from agentcheckpoint.explain import input_mismatch, placed
from agentcheckpoint.options import RunOptions
from agentcheckpoint.store.connect import Connectable
from agentcheckpoint.store.effects import Protocol
from agentcheckpoint.store.index import list_run
from agentcheckpoint.store.loading import Loaded
from agentcheckpoint.store.making import exists_error
from agentcheckpoint.store.reading import read_results, snapshot
from agentcheckpoint.store.store import Store
from agentcheckpoint.taking import make_run


@dataclass(frozen=True, slots=True)
class AgentCall:
    """A call of an agent, with all that is known before it runs; the options name the agent and its inputs."""

    run_id: str
    is_new: bool
    """Its id was made for this call: nothing is recorded of it."""
    function: Callable[[], Any]
    returns: Any
    type: ResultType[Any]
    store: Connectable
    options: RunOptions

    def whatever_stands(self) -> AgentCall:
        """The same call, which opens a completed run too."""
        return replace(self, options=replace(self.options, unless_completed=False))

    def output(self, data: bytes) -> Any:
        """The recorded output, in type."""
        with placed(self.run_id):
            return self.type.decode(data)

    def recorded(self) -> Protocol[tuple[bytes | None, float]]:
        """The output of the run, if it is completed and has one that answers this call; and seconds until its next
        attempt is due by its policy.

        Raises:
            StepMismatch: what is recorded answers another call.
        """
        if self.is_new or self.options.on_existing in ("never", "fresh"):
            return None, 0.0
        try:
            return (yield from self._read(Attempt(None, self.run_id, self.options)))
        except RunNotFound:  # if it was deleted, opening it will say so
            return None, 0.0

    def _read(self, attempt: Attempt) -> Protocol[tuple[bytes | None, float]]:
        loaded = yield from snapshot(attempt.fence)
        rest = 0.0 if self.options.retry is None else rest_of(loaded.meta["state"], loaded.due_ms, loaded.now_ms)
        started, closed = _deciding(loaded)
        if started is None or started.inputs is None or not self.is_answered_by(started.agent, started.inputs):
            return None, rest
        if closed is None or closed.output is None:
            return None, rest
        found = yield from read_results(attempt.fence, loaded.token, (closed.id,))
        return attempt.chain.decode(found[closed.id], closed.output, attempt.where("", closed.id)), 0.0

    def is_answered_by(self, agent: str | None, inputs: Inputs) -> bool:
        """Whether a run that was started so answers this call. Raises ``StepMismatch`` if that is to be said."""
        own, policy = self.options.inputs, self.options.on_mismatch
        assert own is not None
        same = agent == self.options.agent and inputs.digest == own.digest
        if same or policy != "error":
            return same or policy == "reuse"
        if agent == self.options.agent:
            raise input_mismatch(self.run_id, str(agent), inputs, own)
        raise _anothers(self.run_id, agent, str(self.options.agent))


def _anothers(run_id: str, theirs: str | None, mine: str) -> StepMismatch:
    return StepMismatch(
        f"run {run_id!r}: it was started by agent {theirs!r}, and is called as a run of agent {mine!r}. A run "
        f"belongs to one agent: use another id; or, if the function was renamed, @ac.agent(name={theirs!r}).",
        run_id=run_id,
    )


def _deciding(loaded: Loaded) -> tuple[About | Opened | None, Closed | None]:
    """How the run was started, and how it was completed; ``None``: it is not, or not by an agent."""
    started: About | Opened | None = None
    opened = by = ended = None
    for entry in since_restart(loaded.entries):
        if isinstance(entry, About | Opened) and started is None and entry.inputs is not None:
            started = entry  # the first says what the run is about
        if isinstance(entry, Opened):
            opened = entry
        elif isinstance(entry, Closed):
            ended, by = entry, opened
    # A step committed since the last end makes the run's state something else than completed.
    if ended is None or by is None or by.inputs is None or loaded.meta["state"] != "completed":
        return started, None
    return by, ended


def stored_input(run_id: str, agent: str, options: RunOptions) -> Protocol[bytes]:
    """The arguments that are stored for a run of this agent.

    Raises:
        RunNotFound, RunMisuse (there are none), StepMismatch (it is another agent's), StoreError.
    """
    attempt = Attempt(None, run_id, options)
    loaded = yield from snapshot(attempt.fence)
    begun = about(loaded.entries)
    if begun is None or begun.input is None:
        raise RunMisuse(
            f"run {run_id!r}: its arguments are not stored, so that only its caller can go on with it. Call "
            "agent.run(id, ...) with them; or start it by agent.submit(id, ...), which says what cannot be stored.",
            run_id=run_id,
        )
    if begun.agent != agent:
        raise _anothers(run_id, begun.agent, agent)
    found = yield from read_results(attempt.fence, loaded.token, (begun.id,))
    return attempt.chain.decode(found[begun.id], begun.input, attempt.where("", begun.id))


def submit_call(call: AgentCall, store: Store) -> bool:
    """Makes the run of a call, and lists it as due. Raises what ``Agent.submit`` raises."""
    attempt = Attempt(store, call.run_id, call.options)
    made = store.run(make_run(attempt))
    if not made:
        loaded = store.run(snapshot(attempt.fence))
        if call.options.on_existing == "never":
            raise exists_error(attempt.fence, loaded.meta["state"], int(loaded.meta["attempt"]))
        started, _ = _deciding(loaded)
        if started is not None and started.inputs is not None:
            call.is_answered_by(started.agent, started.inputs)
        if loaded.meta["state"] != "waiting" or loaded.meta["attempt"] != "0":
            return False
    now = int(time.time() * 1000)  # whoever made it may have died before he could list it
    if not store.run(list_run(attempt.namespace, attempt.run_id, now, now)):
        raise StoreUnavailable(
            f"run {attempt.run_id!r}: it is stored, and could not be listed for who works on it. Do it again: a run is "
            "made once.",
            run_id=attempt.run_id,
        )
    return made

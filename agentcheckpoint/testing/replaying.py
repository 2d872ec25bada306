"""A run that was recorded once, replayed by today's agent without a provider: what has drifted is shown as a diff."""

from __future__ import annotations

import io
import os
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, cast

from agentcheckpoint import attempt
from agentcheckpoint.agents import Agent
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core import exported
from agentcheckpoint.core.exported import EndLine, EntryLine, Header
from agentcheckpoint.core.journal import Call
from agentcheckpoint.core.models import Closed, Done
from agentcheckpoint.errors import AgentCheckpointWarning, CommitUnknown, RunMisuse
from agentcheckpoint.export import export_run, import_run
from agentcheckpoint.exportfile import Exported, read_exported
from agentcheckpoint.store.connect import Connectable
from agentcheckpoint.testing.brain import Answer
from agentcheckpoint.testing.drift import Drift
from agentcheckpoint.testing.matrix import Bench, live
from agentcheckpoint.testing.provider import Provider
from agentcheckpoint.view import get

ANEW = "If the change is meant, record the run anew: testing.record."

AnyAgent: TypeAlias = Agent[..., Any]


class Drifted(BaseException):
    """The agent does something that is not recorded: it ends here, and nothing more is stored."""


def record(run_id: str, path: str | os.PathLike[str], *, store: Connectable = None, namespace: str = "default") -> None:
    """Writes a completed run to a file, for ``assert_replays``. It holds all that its steps were answered, in clear.

    Args:
        run_id: the run's name.
        path: where to; a file that is there is replaced.
        store, namespace: as in ``ac.get``.

    Raises:
        RunMisuse: it is not completed.
        Exception: what ``ac.export_run`` raises.
    """
    state = get(run_id, store=store, namespace=namespace).state
    if state != "completed":
        raise RunMisuse(f"run {run_id!r} is {state}: record one that is completed.", run_id=run_id)
    export_run(run_id, path, store=store, namespace=namespace)


def assert_replays(agent: AnyAgent | Callable[[Bench], Any], path: str | os.PathLike[str]) -> None:
    """The agent of today does with a recorded run what it did then: the same steps, of the same inputs, and the same
    output. All is answered from the file, in a store in memory; what is not recorded is not executed and not paid.

    Steps that ran at the same time may come in another order. A step that is called with other inputs has drifted,
    also where ``on_mismatch="reuse"`` would let it pass; how old a record is does not matter.

    Args:
        agent: an ``@ac.agent``, which gets the recorded arguments; or a life as for ``crash_matrix``, which opens the
            run by the name that it has in the file.
        path: what ``record`` has written.

    Raises:
        AssertionError: with a unified diff.
        Exception: what the agent raises, and ``ac.import_run`` of the file.
    """
    name, store = os.fspath(path), f"memory://{secrets.token_hex(8)}"
    with open(path, encoding="utf-8", newline="\n") as text:
        recorded = read_exported(text, name)
        import_run(_unended(recorded), store=store)
        drift = Drift(recorded.entries, _output(recorded))
    run_id, namespace = recorded.header.run, recorded.header.namespace
    with Provider(lambda _: Answer(status=500, error="a replay has no provider")) as provider:
        bench = Bench(store, namespace, provider)
        with _refusing(drift, namespace, run_id), warnings.catch_warnings():
            warnings.simplefilter("ignore", AgentCheckpointWarning)  # steps that were not met are in the diff
            with suppress(Drifted):
                live(_resumed(cast(AnyAgent, agent), run_id) if isinstance(agent, Agent) else agent, bench)
        reached = len(provider.requests)
    if not drift.stopped:
        drift.ended(_output_of(run_id, store, namespace))
    if (shown := drift.diff(name)) is not None:
        raise AssertionError(f"run {run_id!r} does not replay as it is recorded in {name}.\n{shown}\n{ANEW}")
    if reached:
        raise AssertionError(f"run {run_id!r}: {reached} request(s) outside of its steps reached the provider.")


def _resumed(agent: AnyAgent, run_id: str) -> Callable[[Bench], Any]:
    def life(bench: Bench) -> Any:
        return agent.using(store=bench.store, namespace=bench.namespace, on_existing="allow").resume(run_id)

    return life


@contextmanager
def _refusing(drift: Drift, namespace: str, run_id: str) -> Generator[None]:
    """Inside, nothing is executed that is not recorded."""
    lock = threading.Lock()

    def observe(live: Attempt, call: Call, answered: Done | None) -> None:
        is_it = (live.namespace, live.run_id) == (namespace, run_id)
        with lock:
            same = drift.met(call, answered) if is_it else drift.other_run(live.run_id, call)
        if not same:
            live.broken = CommitUnknown("the replay has drifted")  # its end is not stored
            raise Drifted(f"step {call.slot!r} is not recorded as it is called now")

    attempt.on_decision.append(observe)
    try:
        yield
    finally:
        attempt.on_decision.remove(observe)


def _unended(recorded: Exported) -> io.StringIO:
    """The file as if the run's worker had died before its end; and as if its steps had just been recorded."""
    meta = {**recorded.header.meta, "state": "running", "due": ""}
    lines = [exported.written(Header(namespace=recorded.header.namespace, run=recorded.header.run, meta=meta))]
    now = int(time.time() * 1000)
    for line, entry, _ in recorded.results():
        if isinstance(entry, Closed) and entry.state == "completed":
            continue
        if isinstance(entry, Done):
            line = EntryLine(entry={**line.entry, "at": now}, text=line.text, base64=line.base64)
        lines.append(exported.written(line))
    lines.append(exported.written(EndLine(end=len(lines))))
    return io.StringIO("".join(lines))


def _output(run: Exported) -> bytes | None:
    """The run's output, as it is stored."""
    output = None
    for _, entry, data in run.results():
        if isinstance(entry, Closed) and entry.state == "completed":
            output = data
    return output


def _output_of(run_id: str, store: str, namespace: str) -> bytes | None:
    text = io.StringIO()
    export_run(run_id, text, store=store, namespace=namespace)
    return _output(read_exported(text, run_id))

"""Agents that workers in other processes work on; what they do to the world stands in a journal of its own.

Each line of the file ``$WORKED_JOURNAL`` is one thing done, with the run and the step that did it: written and synced
before the step returns.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import agentcheckpoint as ac


def do(run_id: str, what: str) -> str:
    """Does a thing that cannot be undone."""
    file = os.open(os.environ["WORKED_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{run_id} {what}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    return what


def done(journal: Path) -> list[str]:
    """What was done, a line each."""
    return journal.read_text().splitlines() if journal.exists() else []


@ac.agent
def blocking(run_id: str, steps: int, pause: float) -> int:
    """So many steps, each of which takes so many seconds after what it does."""
    for n in range(steps):
        run_step(run_id, n, pause)
    do(run_id, "end")
    return steps


@ac.step
def run_step(run_id: str, n: int, pause: float) -> str:
    what = do(run_id, str(n))
    time.sleep(pause)
    return what


@ac.agent
async def unblocking(run_id: str, steps: int, pause: float) -> int:
    """The same, async."""
    for n in range(steps):
        await run_step_async(run_id, n, pause)
    do(run_id, "end")
    return steps


@ac.step
async def run_step_async(run_id: str, n: int, pause: float) -> str:
    what = do(run_id, str(n))
    await asyncio.sleep(pause)
    return what


@ac.agent
def failing(run_id: str) -> int:
    """Fails after its first step, as long as there is no file beside the journal that lets it pass."""
    run_step(run_id, 0, 0)
    if not Path(os.environ["WORKED_JOURNAL"] + ".pass").exists():
        raise ValueError("not yet")
    return 1


@ac.agent
def sleeping(run_id: str, seconds: float) -> int:
    """A step, a sleep that outlasts its process, a step."""
    run_step(run_id, 0, 0)
    until = wake_at(seconds)
    if time.time() * 1000 < until:
        raise ac.Suspended("it sleeps", until_ms=until)
    run_step(run_id, 1, 0)
    return 2


@ac.step
def wake_at(seconds: float) -> int:
    return int((time.time() + seconds) * 1000)


@ac.agent
def held(run_id: str) -> int:
    """Three steps; the second one ends once there is a file beside the journal that lets it."""
    run_step(run_id, 0, 0)
    wait_for_leave(run_id)
    run_step(run_id, 2, 0)
    return 3


@ac.step
def wait_for_leave(run_id: str) -> str:
    what = do(run_id, "1")
    while not Path(os.environ["WORKED_JOURNAL"] + ".leave").exists():
        time.sleep(0.01)
    return what


@ac.agent
def waiting(run_id: str) -> int:
    """Waits without an end, as long as there is no file beside the journal that answers it."""
    run_step(run_id, 0, 0)
    if not Path(os.environ["WORKED_JOURNAL"] + ".pass").exists():
        raise ac.Suspended("it waits")
    run_step(run_id, 1, 0)
    return 2


@ac.agent
def leaving(run_id: str) -> int:
    """Ends its process, or tries to."""
    raise SystemExit(run_id)

"""A race of real processes for a few runs, with kills and stops.

    python -m tests.faults.history_race DIRECTORY URL SEED SECONDS [VARIANT]

forks eight workers, each with connections of its own, kills some by SIGKILL (a new one takes its place), and stops
some for longer than a lease lasts. They keep diaries in DIRECTORY; the numbers of kills and stops are printed.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sys
import time
import warnings
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import agentcheckpoint as ac
from agentcheckpoint import runs  # noqa: F401 (here, so that the children need not)
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.store.commit import Superseded

from .broken import protocol
from .history_diary import Diary

WORKERS, LANES, STEPS, SIDE_BY_SIDE = 8, 3, 30, 3
LEASE = 0.2
"""Seconds. A worker is stopped for up to four times as long."""


def work(directory: Path, url: str, until: float) -> None:
    """One process: opens whatever run comes, does a few steps of it, and looks at others."""
    diary, lives = Diary(directory), random.Random(os.getpid())
    generations = [0] * LANES
    with patch.object(Attempt, "store_change", _noting(Attempt.store_change, diary)):
        while time.monotonic() < until:
            lane = lives.randrange(LANES)
            run_id = f"{lane}-{generations[lane]}"
            if lives.random() < 0.2:
                _look(run_id, url, diary)
            if _visit(run_id, url, diary, lives.randint(1, STEPS // 2)):
                generations[lane] += 1


def _visit(run_id: str, url: str, diary: Diary, most: int) -> bool:
    """Opens the run and does up to so many new steps; whether it is complete."""
    diary.claim += 1
    diary.note("claim begun", run_id)
    claimed = False
    try:
        with ac.run(run_id, store=url, lease=LEASE, wait=0.05) as run, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            claimed = True
            diary.note("claim acknowledged", run_id, token=run._attempt.fence.token)
            fresh: list[str] = []

            def result() -> str:
                time.sleep(random.uniform(0, 0.01))
                fresh.append(f"{os.getpid()}.{secrets.token_hex(4)}")
                return fresh[-1]

            def step(n: int) -> None:
                value = run.step(ac.Step("s", key=str(n)), result)
                diary.note("seen", run_id, slot=f"s[{n}]", value=value)

            for n in range(0, STEPS, SIDE_BY_SIDE):
                list(pool.map(step, range(n, n + SIDE_BY_SIDE)))
                if len(fresh) >= most:
                    return False
            return True
    except ac.AgentCheckpointError as exc:
        diary.note("left" if claimed else "claim failed", run_id, error=type(exc).__name__)
        return False


def _look(run_id: str, url: str, diary: Diary) -> None:
    diary.note("look begun", run_id)
    try:
        view = ac.get(run_id, store=url)
    except ac.RunNotFound:
        return
    diary.note("looked", run_id, ids=tuple(entry.id for entry in view.entries))


def _noting(commit: Any, diary: Diary) -> Any:
    """The same commit, with a note before and after."""

    def noted(self: Attempt, change: Any, slot: str | None = None, *rest: Any) -> Generator[Any, Any, Any]:
        what = {"entry": change.entry.id, "slot": slot or ""}
        diary.note("commit begun", self.run_id, token=self.fence.token, **what)
        try:
            outcome = yield from commit(self, change, slot, *rest)
        except ac.AgentCheckpointError as exc:
            diary.note("commit failed", self.run_id, error=type(exc).__name__, **what)
            raise
        ended = "commit superseded" if isinstance(outcome, Superseded) else "commit acknowledged"
        diary.note(ended, self.run_id, **what)
        return outcome

    return noted


def _fork(directory: Path, url: str, until: float) -> int:
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("ignore")
            work(directory, url, until)
            os._exit(0)
        except BaseException as exc:
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
            os._exit(1)
    return child


def race(directory: Path, url: str, seed: int, seconds: float) -> dict[str, int]:
    """Runs it; returns how many were killed, stopped, and ended with an error of their own."""
    killer, until = random.Random(seed), time.monotonic() + seconds
    counts = {"killed": 0, "stopped": 0, "failed": 0}
    workers = [_fork(directory, url, until) for _ in range(WORKERS)]
    stopped: dict[int, float] = {}
    while time.monotonic() < until:
        time.sleep(killer.uniform(0.02, 0.1))
        for pid in [pid for pid, wakes in stopped.items() if wakes < time.monotonic()]:
            os.kill(pid, signal.SIGCONT)
            del stopped[pid]
        n = killer.randrange(WORKERS)
        if workers[n] in stopped:
            continue
        if killer.random() < 0.4:
            os.kill(workers[n], signal.SIGKILL)
            counts["killed"] += os.waitpid(workers[n], 0)[1] == signal.SIGKILL
            workers[n] = _fork(directory, url, until)
        else:
            os.kill(workers[n], signal.SIGSTOP)
            counts["stopped"] += 1
            stopped[workers[n]] = time.monotonic() + killer.uniform(LEASE, 4 * LEASE)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    counts["failed"] = sum(os.waitpid(pid, 0)[1] != 0 for pid in workers)
    return counts


def main(directory: str, url: str, seed: str, seconds: str, variant: str = "") -> None:
    chosen = next((one for one in protocol.VARIANTS if one.name == variant), None)
    with nullcontext() if chosen is None else chosen.broken():
        print(json.dumps(race(Path(directory), url, int(seed), float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])

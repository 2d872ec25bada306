"""Workers of a job engine as processes, the example's agent on them, and a provider that can hold a call."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import agentcheckpoint as ac
from agentcheckpoint.testing.brain import Answer, Request

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 60.0
"""Seconds to wait for anything that must come: the machine may be busy."""


def until(true: Callable[[], object], what: str, logs: Callable[[], str] = str) -> None:
    """Waits until it is true. Raises ``TimeoutError``, with what the logs say then."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE:.0f} s\n{logs()}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        module: the example's.
        scheme: of the broker's URL, before the path of its socket.
        command: what starts a worker, after ``python -m``. ``{broker}`` stands for the broker's URL.
        ready: what a worker's log says once it takes tasks.
        done: what it says of each task that has ended.
        stopping: what it says when it was told to stop.
    """

    module: str
    scheme: str
    command: tuple[str, ...]
    ready: re.Pattern[str]
    done: re.Pattern[str]
    stopping: re.Pattern[str]


class Holding:
    """A model that repeats what it is asked, and keeps the second call of some questions waiting."""

    def __init__(self) -> None:
        self._held: dict[str, threading.Event] = {}
        self.waiting: set[str] = set()
        """Questions whose call has come and waits."""
        self._dropped: set[str] = set()

    def hold(self, question: str) -> None:
        """Let the next second call of this question wait."""
        self._held[question] = threading.Event()

    def release(self, question: str, *, drop: bool = False) -> None:
        """Let it go on. ``drop``: whoever asked is dead, and is not billed."""
        if drop:
            self._dropped.add(question)
        self._held.pop(question).set()

    def __call__(self, request: Request) -> Answer:
        text = str(request.messages[-1]["content"])
        question = text.rpartition(": ")[2]
        held = self._held.get(question) if text.startswith("Write it out") else None
        if held is not None:
            self.waiting.add(question)
            held.wait(PATIENCE)
            self.waiting.discard(question)
            if question in self._dropped:
                return Answer(drop="before")
        return Answer(text)


class Worker:
    """One worker of an engine, leader of a session of its own."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, cwd=EXAMPLES, env=environment, stdout=file, stderr=file, start_new_session=True
            )

    def said(self, pattern: re.Pattern[str]) -> int:
        """How often its log says so."""
        return len(pattern.findall(self._log.read_text("utf-8", "replace")))

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def processes(self) -> list[int]:
        """All processes of its session: children may have made themselves leaders of groups."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.getsid(int(entry.name)) == self._process.pid:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
        return found

    def kill(self) -> None:
        """SIGKILL to all of it."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait(PATIENCE)

    def terminate(self) -> None:
        """SIGTERM to its main process, as a supervisor sends it."""
        self._process.terminate()

    def wait(self) -> int:
        """Waits for its end."""
        return self._process.wait(PATIENCE)


class Stage:
    """Workers of one engine, their store and broker, and what their agent asks."""

    def __init__(self, engine: Engine, server: str, provider: str, folder: Path) -> None:
        self.engine, self.server, self.folder = engine, server, folder
        self.broker = f"{engine.scheme}{server.removeprefix('unix://')}"
        own = {"AGENTCHECKPOINT_URL": server, "BROKER_URL": self.broker, "PYTHONUNBUFFERED": "1"}
        model_of = {"OPENAI_BASE_URL": provider, "OPENAI_API_KEY": "test", "OPENAI_MODEL": "demo-large"}
        here = {"PYTHONPATH": os.pathsep.join((str(EXAMPLES), str(ROOT))), "NO_PROXY": "127.0.0.1"}
        self.own = {**own, **model_of, **here, "PYTHONWARNINGS": "ignore"}
        self.workers: list[Worker] = []
        self.tasks: Any = None
        self.agent: Any = None

    def learn(self, example: ModuleType) -> None:
        """Takes the tasks and the agent from the example, which the workers have, too."""
        self.tasks, self.agent = example.tasks, example.write

    def begin_worker(self) -> None:
        """Starts one more; it need not be ready yet."""
        command = [word.format(broker=self.broker) for word in self.engine.command]
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker([sys.executable, "-m", *command], {**os.environ, **self.own}, log))

    def worker_at(self, run_id: str) -> Worker:
        """Who works on the run."""
        pid = int(re.findall(r"pid (\d+)", self.view(run_id).attempts[-1].worker)[0])
        return next(worker for worker in self.workers if worker.alive and pid in worker.processes())

    def view(self, run_id: str) -> ac.RunView:
        return ac.get(run_id, store=self.server)

    def until_completed(self, run_id: str) -> float:
        """Waits for the run's end; returns how many seconds that took."""
        began = time.monotonic()
        until(lambda: self.view(run_id).state == "completed", f"{run_id} completed", self.logs)
        return time.monotonic() - began

    def count(self, pattern: re.Pattern[str]) -> int:
        """How often all logs together say so."""
        return sum(worker.said(pattern) for worker in self.workers)

    def logs(self) -> str:
        return "\n".join(worker.log for worker in self.workers)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

"""One life of a worker as its parent sees it: started, listened to, and perhaps killed."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from agentcheckpoint.demo import DemoFailed
from agentcheckpoint.demo.points import Point
from agentcheckpoint.demo.worker import Job

Event: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Life:
    """What one worker process did.

    Attributes:
        recorded: steps that were checkpointed before it began.
        replayed: steps that it answered from their records.
        saved: what these had cost, in nano-dollars.
        commits: how many it applied.
        checkpoints: when it checkpointed each step, in seconds from the opening of the run.
        last: the last event that it told, other than text.
        answer: what the agent returned, if it came so far.
        killed: it ended by SIGKILL.
        seconds: from the opening of the run to its end.
    """

    recorded: int = 0
    replayed: int = 0
    saved: int = 0
    commits: int = 0
    checkpoints: list[float] = field(default_factory=list[float])
    last: Event = field(default_factory=dict[str, Any])
    answer: str | None = None
    killed: bool = False
    seconds: float = 0.0

    def take(self, event: Event, at: float) -> None:
        """Note an event that came ``at`` seconds after the opening."""
        self.seconds = at
        if event["event"] == "text":
            return
        self.last = event
        self.replayed = event.get("replayed", self.replayed)
        self.saved = event.get("saved", self.saved)
        if event["event"] == "commit":
            self.commits += 1
        if event.get("kind") == "done":
            self.checkpoints.append(at)
        self.answer = event.get("answer", self.answer)

    @property
    def done(self) -> int:
        """How many steps are checkpointed now."""
        return self.recorded + len(self.checkpoints)

    @property
    def working(self) -> bool:
        """It does something new: it has replayed what there was to replay."""
        return not self.recorded or self.commits > 0


def live(job: Job, recorded: int, point: Point | None, errors: Path, tell: Callable[[Life, Event], None]) -> Life:
    """Run a worker until it ends, and kill it at a moment.

    Args:
        job: what it is to do.
        recorded: steps that are checkpointed already.
        point: when to kill it; ``None``: let it live.
        errors: a file for what it writes to stderr.
        tell: called with each event.

    Raises:
        DemoFailed: it ended with an error.
    """
    life = Life(recorded)
    with (
        errors.open("ab") as stderr,
        subprocess.Popen(
            job.command(),
            env=job.environment(),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            _follow(process, life, point, tell)
        except BaseException:
            process.kill()
            raise
    life.killed = process.returncode == -signal.SIGKILL
    if process.returncode and not life.killed:
        raise DemoFailed(f"a worker ended with code {process.returncode}:\n{errors.read_text('utf-8', 'replace')}")
    return life


def _follow(
    process: subprocess.Popen[str], life: Life, point: Point | None, tell: Callable[[Life, Event], None]
) -> None:
    assert process.stdout is not None
    events: queue.SimpleQueue[tuple[float, Event | None]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(process.stdout, events), daemon=True).start()
    opened = 0.0
    due: float | None = None
    while True:
        try:
            at, event = events.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        except queue.Empty:
            process.kill()
            point = due = None
            continue
        if event is None:
            return
        opened = opened or at
        life.take(event, at - opened)
        tell(life, event)
        if point is not None and life.working and life.done >= point.done:
            # Past the point already: it was passed while this process was replaying, or between two events.
            late = life.done > point.done
            due = at if late else due or at + point.offset


def _listen(lines: Iterable[str], events: queue.SimpleQueue[tuple[float, Event | None]]) -> None:
    for line in lines:
        if line.endswith("\n"):  # the last words of a killed process may be half a line
            events.put((time.monotonic(), json.loads(line)))
    events.put((time.monotonic(), None))

"""One process for each peer, asked by turns."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .environment import python_of
from .postgres import Missing
from .table import DRIVERS, PEERS, Peer

PATIENCE = 120.0
"""Seconds to wait for an answer."""
ROOT = Path(__file__).parent.parent.parent


class Silent(Exception):
    """A driver ended, or did not answer in time; the message is the last thing that it said."""


@dataclass
class Measured:
    """What a peer took, and why it was not measured if it was not.

    Attributes:
        versions: of what was measured.
        steps: seconds for one step, of each round.
        resumes: seconds until the first new step, of each round.
    """

    peer: Peer
    versions: str = ""
    steps: list[float] = field(default_factory=list)
    resumes: list[float] = field(default_factory=list)
    unknown: str = ""


class Driver:
    """A peer's process. The first that it says is its versions."""

    def __init__(self, peer: Peer, directory: Path, address: str, log: IO[bytes]) -> None:
        self._log = log
        python = python_of(directory) if peer.foreign else Path(sys.executable)
        ours = {} if peer.foreign else {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [python, DRIVERS / f"{peer.driver}.py", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ours,
        )

    def ask(self, question: str, count: int) -> Any:
        """The answer.

        Raises:
            Silent: there is none.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(question, count, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> Any:
        """What it says next.

        Raises:
            Silent: nothing.
        """
        assert self._process.stdout is not None
        late = threading.Timer(PATIENCE, self._process.kill)
        late.start()
        line = self._process.stdout.readline()
        late.cancel()
        if line:
            return json.loads(line)
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        raise Silent(said[-1] if said else f"no answer within {PATIENCE:.0f} s")

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def measure(directory: Path, rounds: int, steps: int, recorded: int) -> list[Measured]:
    """All peers by turns; each round begins with the next one.

    Args:
        directory: the peers' environment.
        steps: of the run that each round does.
        recorded: steps of the run that each round resumes.
    """
    with contextlib.ExitStack() as stack:
        drivers: dict[str, Driver] = {}
        table = [Measured(peer) for peer in PEERS]
        for row in table:
            with _excused(row):
                driver = drivers[row.peer.name] = stack.enter_context(_started(row.peer, directory))
                row.versions = driver.answer()
                driver.ask("commit", steps)  # whatever is done only once
                driver.ask("fill", recorded)
                driver.ask("resume", recorded)
        for n in range(rounds):
            for row in table[n % len(table) :] + table[: n % len(table)]:
                if not row.unknown:
                    with _excused(row):
                        row.steps.append(drivers[row.peer.name].ask("commit", steps))
                        row.resumes.append(drivers[row.peer.name].ask("resume", recorded))
    return table


@contextlib.contextmanager
def _excused(row: Measured) -> Iterator[None]:
    try:
        yield
    except (Missing, Silent, OSError, subprocess.SubprocessError) as why:
        row.unknown = f"{why}"


@contextlib.contextmanager
def _started(peer: Peer, directory: Path) -> Iterator[Driver]:
    with tempfile.TemporaryFile() as log, peer.place() as address:
        driver = Driver(peer, directory, address, log)
        try:
            yield driver
        finally:
            driver.close()

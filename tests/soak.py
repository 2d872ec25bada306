"""Workers that are killed at random for as long as one likes, settled against the journal of the provider they paid.

    python -m tests.soak --seconds 600 --workers 4

Runs are submitted all the time. Now and then a worker is killed, or told to end, and another takes its place; runs are
cancelled and retried. At the end all runs are brought to their end, and ledgers and journal must tell one story.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import agentcheckpoint as ac
from agentcheckpoint.core.models import Done
from agentcheckpoint.testing.accounts import settle
from agentcheckpoint.testing.provider import Provider

from .faults.servers import Server, binaries
from .soaked_agents import thinking, unblocking, work

FORKS: ForkServerContext = multiprocessing.get_context("forkserver")
PATIENCE = 90
"""Seconds that the workers have at the end to finish what is left."""


class Soak:
    """The workers, the runs, and who disturbs them."""

    def __init__(self, server: Server, provider: Provider, workers: int, seed: int) -> None:
        self.server, self.provider = server, provider
        self.chance = random.Random(seed)
        self.workers = [self.hired() for _ in range(workers)]
        self.runs: list[str] = []
        self.did: Counter[str] = Counter()

    def hired(self, *, until_idle: bool = False) -> BaseProcess:
        worker = FORKS.Process(target=work, args=(self.server.url, self.provider.url, until_idle))
        worker.start()
        return worker

    def disturb(self) -> None:
        """One thing happens."""
        what = self.chance.choices(
            ["submit", "kill", "terminate", "cancel", "retry"], weights=[50, 15, 5, 5, 5]
        )[0]  # fmt: skip
        self.did[what] += 1
        if what == "submit":
            self.runs.append(f"r{len(self.runs)}")
            agent = self.chance.choice([thinking, unblocking])
            agent.using(store=self.server.url).submit(self.runs[-1], self.runs[-1])
        elif what in ("kill", "terminate"):
            self.replace(self.chance.randrange(len(self.workers)), signal.SIGKILL if what == "kill" else signal.SIGTERM)
        elif self.runs:
            try:
                (ac.cancel if what == "cancel" else ac.retry)(self.chance.choice(self.runs), store=self.server.url)
            except (ac.RunMisuse, ac.RunBusy):  # it has ended, or a worker is at it
                self.did[f"{what} refused"] += 1

    def replace(self, n: int, number: signal.Signals) -> None:
        worker = self.workers[n]
        assert worker.pid is not None
        os.kill(worker.pid, number)
        worker.join(30)
        assert worker.exitcode in (0, -signal.SIGKILL, -signal.SIGTERM), worker.exitcode
        self.workers[n] = self.hired()

    def finish(self) -> None:
        """Brings every run to its end."""
        for worker in self.workers:
            worker.terminate()
            worker.join(30)
        deadline = time.monotonic() + PATIENCE
        while (left := self.unended()) and time.monotonic() < deadline:
            worker = self.hired(until_idle=True)
            worker.join(PATIENCE)
            ac.sweep(store=self.server.url, all=True)
            time.sleep(0.2)
        assert not left, f"these runs never came to their end: {left}"

    def unended(self) -> list[str]:
        return [run for run in self.runs if ac.get(run, store=self.server.url).state not in ("completed", "cancelled")]

    def report(self) -> dict[str, object]:
        """What happened, and what is wrong; raises nothing."""
        views = [ac.get(run, store=self.server.url) for run in self.runs]
        entries = [entry for view in views for entry in view.ledger]
        accounts = settle(self.provider.journal, entries)
        wrong = list(accounts.problems)
        for view in views:
            slots = Counter(entry.slot for entry in view.entries if isinstance(entry, Done))
            wrong += [f"{view.id}: {slot} is recorded {n} times" for slot, n in slots.items() if n > 1]
            if view.state == "completed" and len(slots) != 4:
                wrong.append(f"{view.id} is completed with the steps {sorted(slots)}")
        return {
            "did": dict(self.did),
            "runs": dict(Counter(view.state for view in views)),
            "attempts": sum(view.attempt for view in views),
            "payments": accounts.provider_calls,
            "bought again in the window": accounts.repaid_in_window,
            "paid twice": accounts.paid_twice,
            "wrong": wrong,
        }


def soak(seconds: float, workers: int, seed: int, directory: Path) -> dict[str, object]:
    """Disturbs workers for so many seconds; returns the report."""
    FORKS.set_forkserver_preload(["tests.soaked_agents", "agentcheckpoint.jobs.worker", "agentcheckpoint.aio"])
    with Server(next(iter(binaries().values())), directory) as server, Provider() as provider:
        disturbed = Soak(server, provider, workers, seed)
        until = time.monotonic() + seconds
        try:
            for _ in itertools.takewhile(lambda _: time.monotonic() < until, itertools.count()):
                disturbed.disturb()
                time.sleep(disturbed.chance.uniform(0, 0.1))
            disturbed.finish()
            return disturbed.report()
        finally:
            for worker in disturbed.workers:
                worker.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    warnings.simplefilter("ignore", ac.DurabilityWarning)
    with tempfile.TemporaryDirectory() as directory:
        report = soak(options.seconds, options.workers, options.seed, Path(directory))
    print(json.dumps({"seed": options.seed, **report}, indent=2))
    return 1 if report["wrong"] or report["paid twice"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Workers that race for the same runs, each in a process of its own.

    python tests/racing_workers.py URL JOURNAL RUNS WORKERS

submits the runs, lets the workers have them until nothing is due, and prints what each has made of them: a line of JSON
for each attempt.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

import worked_agents

import agentcheckpoint as ac
from agentcheckpoint import aio  # noqa: F401 (here, so that the children need not)


def submit(url: str, runs: int) -> None:
    for n in range(runs):
        agent = worked_agents.blocking if n % 2 else worked_agents.unblocking
        assert agent.using(store=url).submit(f"r{n}", f"r{n}", 2, 0.001)


def work(url: str) -> None:
    """One worker's life."""

    def tell(run_id: str, agent: str, worked: ac.Worked, seconds: float) -> None:
        error = type(worked.error).__name__ if worked.error else None
        os.write(1, (json.dumps({"run": run_id, "state": worked.state, "error": error}) + "\n").encode())

    agents = [worked_agents.blocking, worked_agents.unblocking]
    ac.Worker(agents, store=url, concurrency=4, poll=0.05, until_idle=True, on_attempt=tell).run()


def main(url: str, journal: str, runs: int, workers: int) -> int:
    warnings.simplefilter("ignore", ac.DurabilityWarning)
    os.environ["WORKED_JOURNAL"] = journal
    submit(url, runs)
    children: list[int] = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            try:
                work(url)
            finally:
                os._exit(1 if sys.exc_info()[0] is not None else 0)
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))

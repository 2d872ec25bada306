"""A worker in a process of its own, at one step of a run.

    python tests/other_worker.py URL RUN LEASE

runs step ``one``, says ``open`` and waits inside step ``two`` for a line on its standard input. Then it says what
became of it: ``busy``, ``lost``, or ``done`` and the results.
"""

from __future__ import annotations

import sys

import agentcheckpoint as ac


def one(worker: str) -> str:
    return worker


def two(worker: str) -> str:
    print("open", flush=True)
    sys.stdin.readline()
    return worker


def main(url: str, run_id: str, lease: str) -> None:
    step_one, step_two = ac.Step("one", ignore=("worker",)), ac.Step("two", ignore=("worker",))
    try:
        with ac.run(run_id, store=url, lease=float(lease)) as run:
            me = f"attempt {run.attempt}"
            results = run.step(step_one, one, me), run.step(step_two, two, me)
    except ac.RunBusy:
        print("busy", flush=True)
    except ac.LeaseLost as exc:
        print("lost", exc.value, flush=True)
    else:
        print("done", *results, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

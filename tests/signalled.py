"""A script of a user's, which gets a signal in the middle of a step.

    python tests/signalled.py URL RUN KIND

``KIND`` is ``blocking``, ``loop``, ``threads`` or ``own`` (the program has its own way with SIGTERM). It says ``in`` when
it is inside step ``two`` and ends that step by a line on its standard input; the step's result is ``two``.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import agentcheckpoint as ac


def one() -> str:
    return "one"


def two() -> str:
    print("in", flush=True)
    sys.stdin.readline()
    return "two"


def three() -> str:
    return "three"


async def aone() -> str:
    return one()


async def atwo() -> str:
    return await asyncio.to_thread(two)


async def athree() -> str:
    return three()


def blocking(url: str, run_id: str) -> None:
    with ac.run(run_id, store=url) as run:
        for step in (one, two, three):
            run.step(step.__name__, step)


async def loop(url: str, run_id: str) -> None:
    async with ac.run(run_id, store=url) as run:
        for name, step in (("one", aone), ("two", atwo), ("three", athree)):
            await run.step(name, step)


def threads(url: str, run_id: str) -> None:
    """Its steps run in threads, while the main thread waits for them."""
    with ac.run(run_id, store=url) as run, ThreadPoolExecutor(2) as pool:
        for step in (one, two, three):
            pool.submit(run.step, step.__name__, step).result()


def own(url: str, run_id: str) -> None:
    def on_sigterm(number: int, frame: object) -> None:
        print("mine", flush=True)

    signal.signal(signal.SIGTERM, on_sigterm)
    blocking(url, run_id)


def main(url: str, run_id: str, kind: str) -> None:
    warnings.simplefilter("ignore", ac.DurabilityWarning)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if kind == "loop":
            asyncio.run(loop(url, run_id))
        else:
            {"blocking": blocking, "threads": threads, "own": own}[kind](url, run_id)
    except ac.Interrupted as exc:
        print("interrupted", exc, flush=True)
    else:
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

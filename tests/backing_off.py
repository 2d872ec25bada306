"""A worker whose step fails, and which says so and is killed while it waits for the next try.

python tests/backing_off.py URL RUN COLOUR SECONDS
"""

from __future__ import annotations

import asyncio
import sys

from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_fixed

import agentcheckpoint as ac


def fail() -> None:
    raise ValueError


def say(state: RetryCallState) -> None:
    print("waiting", flush=True)


async def main_async(url: str, run_id: str, step: ac.Step) -> None:
    async with ac.run(run_id, store=url) as run:
        await run.step(step, fail)


def main(url: str, run_id: str, colour: str, seconds: str) -> None:
    policy = Retrying(stop=stop_after_attempt(3), wait=wait_fixed(float(seconds)), before_sleep=say)
    step = ac.Step("s", retry=policy)
    if colour == "async":
        asyncio.run(main_async(url, run_id, step))
    else:
        with ac.run(run_id, store=url) as run:
            run.step(step, fail)


if __name__ == "__main__":
    main(*sys.argv[1:])

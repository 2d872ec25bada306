"""Many commits at once: steps of one run, and runs of one process, with each commit synced to disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import redis.asyncio

import agentcheckpoint as ac

from .commits import make, make_async
from .core import Goal, Row, Scale, compare, whole_time
from .packets import of_one_commit
from .servers import server

WIDTH = 500
RUNS = 50


@contextlib.contextmanager
def opened(loop: asyncio.Runner, url: str, count: int) -> Iterator[list[Any]]:
    """So many new runs, open on the loop while the block runs."""
    openers = [ac.run(f"bench-{n}", store=url) for n in range(count)]
    yield [loop.run(opener.__aenter__()) for opener in openers]
    for opener in openers:
        loop.run(opener.__aexit__(None, None, None))


async def together(run: Any, width: int) -> None:
    """So many steps of the run at once."""
    await asyncio.gather(*(run.step("s", make_async) for _ in range(width)))


async def one_by_one(run: Any, count: int) -> None:
    """So many steps of the run, one after the other."""
    for _ in range(count):
        await run.step("s", make_async)


async def side_by_side(runs: list[Any], steps: int) -> None:
    """So many steps of each run, all runs at once."""
    await asyncio.gather(*(one_by_one(run, steps) for run in runs))


def parallel_steps(scale: Scale) -> Row:
    """Steps of one run in a ``gather``, against the same one after the other: steps per second."""
    few = scale.size(200, 60)
    with server("always") as url, asyncio.Runner() as loop, opened(loop, url, 1) as (run,):
        return compare(
            f"{WIDTH} parallel steps of one run / one after the other, fsync always, steps per second",
            lambda: whole_time(lambda: loop.run(together(run, WIDTH))) / WIDTH,
            lambda: whole_time(lambda: loop.run(one_by_one(run, few))) / few,
            Goal("at least", 8),
            scale.rounds,
            faster=True,
        )


def concurrent_runs(scale: Scale) -> Row:
    """Runs on one loop, against as many tasks that each send bare pipelines over redis-py's asyncio pool."""
    steps = scale.size(40, 8)
    with server("always") as url, asyncio.Runner() as loop:
        with ac.run("sample", store=url) as sample:
            commands = of_one_commit(sample, make)[1]
        with opened(loop, url, RUNS) as runs:
            return compare(
                f"{RUNS} concurrent runs / redis-py's asyncio pool, fsync always, steps per second",
                lambda: whole_time(lambda: loop.run(side_by_side(runs, steps))),
                lambda: whole_time(lambda: loop.run(_pool(url, commands, steps))),
                Goal("at least", 4),
                scale.rounds,
                faster=True,
            )


async def _pool(url: str, commands: list[tuple[Any, ...]], steps: int) -> None:
    client = redis.asyncio.Redis.from_url(url)

    async def one() -> None:
        for _ in range(steps):
            pipeline = client.pipeline(transaction=True)
            for command in commands:
                pipeline.execute_command(*command)
            await pipeline.execute()

    await asyncio.gather(*(one() for _ in range(RUNS)))
    await client.aclose()


ROWS = (parallel_steps, concurrent_runs)
